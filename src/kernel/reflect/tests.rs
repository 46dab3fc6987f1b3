use super::*;

#[test]
fn panels_cover_every_vector_once() {
    for count in 0..70 {
        let mut next = 0;
        for p in 0..panels(count) {
            let (start, width) = panel(count, p);
            assert!(start == next && matches!(width, 8 | 4 | 2 | 1), "{count} {p}: {start} {width}");
            next += width;
        }
        assert_eq!(next, count);
        let mut seen = vec![false; count * 5];
        for i in 0..count {
            let (first, step) = vector(count, 5, i);
            for k in 0..5 {
                assert!(!core::mem::replace(&mut seen[first + k * step], true));
            }
        }
        assert!(seen.iter().all(|seen| *seen));
    }
}

#[test]
fn runs_grow_with_the_root() {
    assert_eq!([1, 4095, 4096, 100_000, 1 << 20].map(run_length), [64, 64, 64, 256, 1024]);
}
