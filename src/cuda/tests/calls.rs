//! What loaded kernels are found again by, and how many numbers a plan may have.

use super::*;

/// Calls of one plan that say that they are of the same kernel, and are not.
fn check(name: &str, calls: &[Call<'_>]) {
    for (at, call) in calls.iter().enumerate() {
        for other in calls[..at].iter().filter(|other| other.kernel == call.kernel) {
            let same = *call.program == *other.program && call.threads == other.threads && call.shared == other.shared;
            assert!(same, "{name}: {:?} is two kernels", call.kernel);
        }
        // And the device's own table is by text alone.
        for other in calls[..at].iter().filter(|other| *other.program == *call.program) {
            assert_eq!(call.shared, other.shared, "{name}: {:?} and {:?}", call.kernel, other.kernel);
        }
    }
}

#[test]
fn kernels_that_are_called_the_same_are_the_same() {
    let mut all = plans();
    all.extend(super::blocks::plans_of_charts());
    for (name, plan) in all {
        let schedule = Schedule::new(&plan, 8).unwrap();
        let blocks = Blocks::new(&plan).unwrap();
        let tiles =
            [tile::tile(&schedule, 100 << 10, Stored::F32).unwrap(), tile::gradient_tile(&schedule, 20 << 10).unwrap()];
        let mut calls = verbs::pack(&schedule);
        calls.extend(verbs::gather(&schedule));
        calls.extend(blocks.realize());
        calls.extend(verbs::gather_wide(&schedule));
        calls.extend(blocks.realize_vjp());
        for (batch, aligned) in [(1, true), (1000, true), (3, false)] {
            let rows = Rows { batch, stride: plan.n() + batch, aligned };
            for (stored, transposed) in
                [Stored::F32, Stored::Bf16, Stored::F16].into_iter().flat_map(|s| [(s, false), (s, true)])
            {
                calls.extend(
                    tiles.iter().filter_map(|tile| verbs::apply(&schedule, *tile, stored, transposed, rows, rows)),
                );
                calls.extend([verbs::identity(plan.n(), stored)]);
                for bits in 0..4 {
                    let [from_input, gx] = [1, 2].map(|bit| bits & bit != 0);
                    let wanted = Wanted { from_input, gx };
                    calls.extend(verbs::vjp(&schedule, tiles[1], stored, transposed, wanted, 9, [rows; 3]));
                }
            }
        }
        check(name, &calls);
    }
    for n in [13, 300] {
        let (turn, _) = random::drawn(n, 42, 3);
        let mut calls = Vec::new();
        for (batch, aligned) in [(1, true), (1000, true), (3, false)] {
            let rows = Rows { batch, stride: n, aligned };
            for (stored, back) in [(Stored::F32, false), (Stored::F32, true), (Stored::F16, true)] {
                let tile = random::tile(&turn, 100 << 10).unwrap();
                calls.extend(random::call(&turn, tile, stored, back, rows));
            }
        }
        check("random rotation", &calls);
    }
}

/// A plan of so many would take gigabytes.
#[test]
fn numbers_leave_two_bits_to_flags() {
    assert!(schedule::check_numbers((1 << 30) - 1).is_ok());
    for numbers in [1 << 30, usize::MAX] {
        assert!(matches!(schedule::check_numbers(numbers), Err(crate::Error::Unsupported { .. })));
    }
}
