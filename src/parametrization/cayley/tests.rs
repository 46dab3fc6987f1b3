use super::*;

#[test]
fn runs() {
    let mut q = [0.0; 9];
    Cayley.forward(3, &[0.0; 3], &mut q);
    assert_eq!(q, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
}
