//! Operators in files: the same bits again, and polite refusals of everything else.
#![cfg(feature = "files")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use papilio::parametrization::{Cayley, Charts, Exponential, Givens};
use papilio::topology::{AnyButterfly, BlockDiagonal, Butterfly, Explicit, Shared};
use papilio::{Error, Orthogonal, Parametrization, Plan, Result, Scalar, Sharing, Source, StageLayout, c32, c64};
use proptest::prelude::*;
use rand::SeedableRng;
use support::{raw, split};
use tempfile::TempDir;

fn random<T: Scalar>(plan: Plan<T>, seed: u64) -> Orthogonal<T> {
    Orthogonal::random_normal(plan, 0.7, &mut rand::rngs::StdRng::seed_from_u64(seed)).unwrap()
}

/// Charts, sharing of every kind, fixed blocks, tables, adjoints, blocks of size 1, a stage without blocks.
fn mixed<T: Scalar<Wide = f64>>() -> Plan<T> {
    let chart = |sharing| Source::Chart { chart: Arc::new(Cayley) as Arc<dyn Parametrization<f64>>, sharing };
    let stages = [
        (StageLayout::contiguous(3, 4), chart(Sharing::Groups([0, 1, 0, 1].into()))),
        (StageLayout::contiguous(2, 6), Source::Fixed([0.6, -0.8, 0.8, 0.6].repeat(6).into())),
        (StageLayout::contiguous(2, 6), chart(Sharing::All)),
        (StageLayout::contiguous(1, 13), chart(Sharing::PerBlock)),
        (StageLayout::contiguous(4, 0), chart(Sharing::All)),
    ];
    let explicit = Explicit::new(13, [(4, vec![12, 3, 0, 7, 8, 1, 2, 11]), (2, vec![5, 4])]).unwrap();
    let plan = Plan::from_stages(13, stages).unwrap();
    plan.then(Plan::new(13, &explicit, Cayley).unwrap().adjoint()).unwrap()
}

/// Reflections of every kind, beside fixed blocks.
fn reflections<T: Scalar>() -> Plan<T> {
    let reflectors = |count, orthonormal, sharing| Source::Reflectors { count, orthonormal, sharing };
    let stages = [
        (StageLayout::contiguous(13, 1), reflectors(9, true, Sharing::PerBlock)),
        (StageLayout::contiguous(4, 3), reflectors(2, false, Sharing::Groups([1, 0, 1].into()))),
        (StageLayout::contiguous(1, 13), Source::Fixed(vec![T::Wide::from_real(1.0); 13].into())),
        (StageLayout::contiguous(3, 4), reflectors(11, false, Sharing::All)),
        (StageLayout::contiguous(5, 2), reflectors(0, false, Sharing::PerBlock)),
    ];
    Plan::from_stages(13, stages).unwrap()
}

fn file(work: &TempDir) -> PathBuf {
    work.path().join("q.safetensors")
}

/// Bits of anything plain.
fn bits<T: Scalar>(numbers: &[T]) -> Vec<[u64; 2]> {
    let bits = |x: f64| x.to_bits();
    numbers.iter().map(|x| [bits(x.to_wide().re()), bits(x.to_wide().im())]).collect()
}

fn assert_round_trip<T: Scalar>(q: &Orthogonal<T>) {
    let work = TempDir::new().unwrap();
    q.save(file(&work)).unwrap();
    let again = Orthogonal::<T>::load(file(&work)).unwrap();
    assert_eq!(bits(again.theta()), bits(q.theta()));
    assert_eq!(bits(again.factors().entries()), bits(q.factors().entries()));
    // The digests agree: each plan takes the factors of the other.
    for k in 0..q.plan().num_stages() {
        let stage = &again.plan().stages()[k];
        assert_eq!(
            (stage.is_adjoint(), stage.theta()),
            (q.plan().stages()[k].is_adjoint(), q.plan().stages()[k].theta())
        );
        assert_eq!((stage.layout(), stage.entries()), (q.plan().stages()[k].layout(), q.plan().stages()[k].entries()));
        if stage.num_groups() > 0 && !matches!(stage.source(), Source::Reflectors { .. }) {
            let mut block = vec![T::zero(); stage.layout().block_size().pow(2)];
            again.plan().block(q.factors(), k, 0, &mut block).unwrap();
        }
    }
    // A file saved again is the same file; nothing else was left in the directory.
    let first = fs::read(file(&work)).unwrap();
    again.save(file(&work)).unwrap();
    assert_eq!(fs::read(file(&work)).unwrap(), first);
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 1);
}

#[test]
fn round_trips_keep_every_bit() {
    for plan in [mixed::<f64>(), mixed().adjoint(), mixed().then(mixed()).unwrap(), Plan::identity(5).unwrap()] {
        assert_round_trip(&random(plan, 1));
    }
    assert_round_trip(&random(mixed::<f32>(), 2));
    assert_round_trip(&random(mixed::<f32>(), 2).rebase().unwrap());
    let shared = Plan::<f64>::new(16, &Shared::by_group(Butterfly::classic(2)), Givens).unwrap();
    let tables = Plan::<f64>::new(13, &AnyButterfly::new(3), Cayley).unwrap();
    assert_round_trip(&random(shared, 4));
    assert_round_trip(&random(reflections::<f32>().adjoint(), 6));
    assert_round_trip(&random(reflections::<c64>(), 7));
    assert_round_trip(&random(tables.adjoint(), 5));
    let butterfly = Plan::<f64>::new(64, &Butterfly::classic(2), Givens).unwrap();
    let mut theta: Vec<f64> = random(butterfly.clone(), 3).theta().to_vec();
    (theta[0], theta[1], theta[2]) = (-0.0, f64::MIN_POSITIVE / 8.0, 1e300);
    assert_round_trip(&Orthogonal::new(butterfly, theta).unwrap());
}

#[test]
fn complex_blocks_are_pairs() {
    let (c, s) = (0.6, 0.8);
    let block = [c64::new(c, 0.0), c64::new(0.0, s), c64::new(0.0, s), c64::new(c, -0.0)];
    let stage = || (StageLayout::contiguous(2, 3), Source::Fixed(block.repeat(3).into()));
    let narrow = || (StageLayout::contiguous(2, 3), Source::Fixed(block.repeat(3).into()));
    assert_round_trip(&Orthogonal::identity(Plan::<c64>::from_stages(6, [stage(), stage()]).unwrap()).unwrap());
    let q = Orthogonal::identity(Plan::<c32>::from_stages(7, [narrow()]).unwrap().adjoint()).unwrap();
    assert_round_trip(&q);
    let unitary = Plan::<c64>::new(12, &AnyButterfly::new(3), Exponential).unwrap();
    assert_round_trip(&random(unitary.adjoint(), 12));
    let work = TempDir::new().unwrap();
    q.save(file(&work)).unwrap();
    let (header, _) = split(&fs::read(file(&work)).unwrap());
    assert_eq!(header["stage.0.blocks"]["shape"], serde_json::json!([3, 2, 2, 2]));
    assert_eq!(header["__metadata__"]["dtype"], "c32");
    let message = Orthogonal::<c64>::load(file(&work)).unwrap_err().to_string();
    assert!(message.contains("`c64`") && message.contains("`c32`"), "{message}");
}

#[test]
fn the_file_is_what_the_documentation_says() {
    let work = TempDir::new().unwrap();
    let q = random(mixed::<f64>(), 4);
    q.save(file(&work)).unwrap();
    let bytes = fs::read(file(&work)).unwrap();
    let (header, data) = split(&bytes);
    let metadata = &header["__metadata__"];
    assert_eq!((&metadata["format"], &metadata["version"]), (&"papilio".into(), &"1".into()));
    let plan: serde_json::Value = serde_json::from_str(metadata["plan"].as_str().unwrap()).unwrap();
    assert_eq!(plan["n"], 13);
    assert_eq!(
        plan["stages"][0],
        serde_json::json!({
            "layout": {"strided": {"unit": 3, "radix": 1, "distance": 3, "groups": 4}},
            "source": {"chart": {"id": "Cayley", "sharing": "groups"}},
        })
    );
    assert_eq!(plan["stages"][1]["source"], "fixed");
    assert_eq!(plan["stages"][5]["layout"], serde_json::json!({"table": {"block": 2}}));
    assert_eq!(
        (&plan["stages"][5]["adjoint"], &plan["theta_order"]),
        (&true.into(), &serde_json::json!([0, 1, 2, 3, 4, 6, 5]))
    );
    assert_eq!(header["stage.6.index"]["shape"], serde_json::json!([2, 4]));
    let tensors = raw(&file(&work));
    let theta: Vec<f64> = tensors["theta"].as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
    assert_eq!(theta, q.theta());
    let index: Vec<u32> = tensors["stage.6.index"].as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
    assert_eq!(index, [12, 3, 0, 7, 8, 1, 2, 11]);
    assert_eq!(data.len(), tensors.values().map(Vec::len).sum::<usize>());
}

/// Plane rotations by θ³, a chart that papilio does not have.
#[derive(Debug)]
struct Cubic;

impl Parametrization<f64> for Cubic {
    fn name(&self) -> &'static str {
        "Cubic"
    }
    fn num_params(&self, b: usize) -> Result<usize> {
        Parametrization::<f64>::num_params(&Givens, b)
    }
    fn forward(&self, b: usize, theta: &[f64], block: &mut [f64]) {
        Givens.forward(b, &[theta[0].powi(3)], block);
    }
    fn vjp(&self, b: usize, theta: &[f64], block: &[f64], d_block: &[f64], d_theta: &mut [f64]) {
        let mut d = [0.0];
        Givens.vjp(b, theta, block, d_block, &mut d);
        d_theta[0] += 3.0 * theta[0].powi(2) * d[0];
    }
    fn inverse(&self, b: usize, block: &[f64], theta: &mut [f64]) -> Result<()> {
        Givens.inverse(b, block, theta)?;
        theta[0] = theta[0].cbrt();
        Ok(())
    }
}

/// The same with a setting: rotations by a multiple of θ.
#[derive(Debug)]
struct Geared(u32);

impl Parametrization<f64> for Geared {
    fn name(&self) -> &'static str {
        "Geared"
    }
    fn id(&self) -> String {
        format!("Geared({})", self.0)
    }
    fn num_params(&self, b: usize) -> Result<usize> {
        Parametrization::<f64>::num_params(&Givens, b)
    }
    fn forward(&self, b: usize, theta: &[f64], block: &mut [f64]) {
        Givens.forward(b, &[theta[0] * f64::from(self.0)], block);
    }
    fn vjp(&self, _: usize, _: &[f64], _: &[f64], _: &[f64], _: &mut [f64]) {
        unreachable!("not needed to save or load")
    }
    fn inverse(&self, b: usize, block: &[f64], theta: &mut [f64]) -> Result<()> {
        Givens.inverse(b, block, theta)
    }
}

#[test]
fn charts_of_users_are_registered() {
    let work = TempDir::new().unwrap();
    let q = random(Plan::<f64>::new(8, &BlockDiagonal::new(2), Cubic).unwrap(), 5);
    q.save(file(&work)).unwrap();
    let message = Orthogonal::<f64>::load(file(&work)).unwrap_err().to_string();
    for word in [
        "q.safetensors",
        "stage 0",
        "`Cubic`",
        "Charts::register",
        "Cayley, ",
        "Cayley-Neumann order 4, ",
        "Exponential, ",
        "Givens, ",
    ] {
        assert!(message.contains(word), "{word}: {message}");
    }
    let mut charts = Charts::new();
    charts.register(Cubic);
    let again = Orthogonal::<f64>::load_with(file(&work), &charts).unwrap();
    assert_eq!(again.factors().entries(), q.factors().entries());
    // A family makes the charts whose settings stand in the id; one that makes another chart is not believed.
    let q = random(Plan::<f64>::new(8, &BlockDiagonal::new(2), Geared(3)).unwrap(), 6);
    q.save(file(&work)).unwrap();
    charts.register_family(|_, _| Some(Arc::new(Geared(4))));
    assert!(Orthogonal::<f64>::load_with(file(&work), &charts).is_err());
    charts.register_family(|_, id| {
        let gear = id.strip_prefix("Geared(")?.strip_suffix(')')?.parse().ok()?;
        Some(Arc::new(Geared(gear)))
    });
    let again = Orthogonal::<f64>::load_with(file(&work), &charts).unwrap();
    assert_eq!(again.factors().entries(), q.factors().entries());
}

/// Rewrites the header of a saved file; lengths are mended, the data stays.
fn tampered(
    work: &TempDir,
    q: &Orthogonal<f64>,
    change: impl FnOnce(&mut serde_json::Value, &mut serde_json::Value),
) -> PathBuf {
    let path = work.path().join("original.safetensors");
    q.save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let (mut header, data) = split(&bytes);
    let mut plan: serde_json::Value = serde_json::from_str(header["__metadata__"]["plan"].as_str().unwrap()).unwrap();
    change(&mut header["__metadata__"], &mut plan);
    if header["__metadata__"]["plan"].is_string() {
        header["__metadata__"]["plan"] = plan.to_string().into();
    }
    let header = header.to_string();
    let file = file(work);
    fs::write(&file, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()).unwrap();
    file
}

fn refusal(path: &Path) -> String {
    match Orthogonal::<f64>::load(path).unwrap_err() {
        error @ Error::File { .. } => {
            let message = error.to_string();
            assert!(message.contains("q.safetensors"), "{message}");
            message
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn newer_versions_and_other_formats_are_refused_politely() {
    let (work, q) = (TempDir::new().unwrap(), random(mixed::<f64>(), 7));
    let message = refusal(&tampered(&work, &q, |metadata, plan| {
        metadata["version"] = "2".into();
        *plan = "something that only version 2 knows".into();
    }));
    assert!(message.contains("1, the newest that this build reads") && message.ends_with("got 2"), "{message}");
    for bad in ["0", "-1", "+1", "01", "one", ""] {
        refusal(&tampered(&work, &q, |metadata, _| metadata["version"] = bad.into()));
    }
    assert!(refusal(&tampered(&work, &q, |metadata, _| metadata["format"] = "pt".into())).contains("Orthogonal::save"));
    assert!(refusal(&tampered(&work, &q, |metadata, _| metadata["dtype"] = "f32".into())).contains("`f32`"));
    for key in ["format", "version", "dtype", "plan"] {
        let path = tampered(&work, &q, |metadata, _| drop(metadata.as_object_mut().unwrap().remove(key)));
        assert!(refusal(&path).contains(key));
    }
    assert!(Orthogonal::<f64>::load(work.path()).is_err() && Orthogonal::<f64>::load("nowhere").is_err());
    Orthogonal::<f64>::load(tampered(&work, &q, |_, _| ())).unwrap();
}

#[test]
fn recipes_that_lie_are_refused() {
    let (work, q) = (TempDir::new().unwrap(), random(mixed::<f64>(), 8));
    type Change = fn(&mut serde_json::Value);
    let lies: [(&str, Change); 18] = [
        ("unknown field", |plan| plan["extra"] = 1.into()),
        ("unknown field", |plan| plan["stages"][0]["extra"] = 1.into()),
        ("unknown variant", |plan| plan["stages"][0]["source"] = "random".into()),
        ("every one of 7 stages once", |plan| plan["theta_order"] = serde_json::json!([0, 1, 2, 3, 4, 5, 5])),
        ("every one of 7 stages once", |plan| plan["theta_order"] = serde_json::json!([0, 1])),
        ("every one of 7 stages once", |plan| plan["theta_order"] = serde_json::json!([0, 1, 2, 3, 4, 5, 7])),
        ("stage 0", |plan| plan["n"] = 11.into()),
        ("theta", |plan| plan["stages"][2]["source"]["chart"]["sharing"] = "per_block".into()),
        ("stage.2.groups", |plan| plan["stages"][2]["source"]["chart"]["sharing"] = "groups".into()),
        ("theta", |plan| plan["stages"][0]["source"]["chart"]["sharing"] = "all".into()),
        ("stage.0.blocks", |plan| plan["stages"][0]["source"] = "fixed".into()),
        ("stage.6.index", |plan| plan["stages"][6]["layout"]["table"]["block"] = 2.into()),
        ("stage.6.index", |plan| plan["stages"][6]["layout"]["table"]["block"] = 0.into()),
        ("stage 2", |plan| plan["stages"][2]["layout"]["strided"]["unit"] = 0.into()),
        ("stage 2", |plan| plan["stages"][2]["layout"]["strided"]["groups"] = u64::MAX.into()),
        ("stage 2", |plan| plan["stages"][2]["layout"]["strided"]["distance"] = (u64::MAX - 1).into()),
        ("invalid value", |plan| plan["n"] = (-1).into()),
        ("1 <= n < 2^32", |plan| *plan = serde_json::json!({"n": 0, "stages": []})),
    ];
    for (word, lie) in lies {
        let message = refusal(&tampered(&work, &q, |_, plan| lie(plan)));
        assert!(message.contains(word), "{word}: {message}");
    }
    // The tensors of a stage that was dropped are strangers.
    let path = tampered(&work, &q, |_, plan| {
        let stages = plan["stages"].as_array_mut().unwrap();
        stages.pop();
        plan["theta_order"] = serde_json::json!([0, 1, 2, 3, 4, 5]);
    });
    assert!(refusal(&path).contains("theta"), "fewer parameters");
}

#[test]
fn small_files_take_little_memory() {
    let work = TempDir::new().unwrap();
    // 4e9 blocks of size 1, which have no parameters; 2e9 blocks that share one; both from some hundred bytes.
    let empty = Orthogonal::<f64>::identity(Plan::identity(3).unwrap()).unwrap();
    let one = Orthogonal::new(Plan::<f64>::new(2, &BlockDiagonal::new(2), Givens).unwrap(), [0.5]).unwrap();
    let stage = |b: u64, sharing: &str| {
        serde_json::json!({
            "layout": {"strided": {"unit": b, "radix": 1, "distance": b, "groups": 4_000_000_000 / b}},
            "source": {"chart": {"id": "Cayley", "sharing": sharing}},
        })
    };
    for (q, b, sharing) in
        [(&empty, 1, "per_block"), (&one, 2, "all"), (&one, 2, "per_block"), (&one, 4_000_000_000, "per_block")]
    {
        let path = tampered(&work, q, |_, plan| {
            *plan = serde_json::json!({"n": 4_000_000_000_u64, "stages": [stage(b, sharing)]});
        });
        assert!(refusal(&path).contains("bytes of memory for a file of this size"));
    }
    // Tables are checked with a byte for each coordinate.
    let table = Explicit::new(4, [(2, vec![1, 3])]).unwrap();
    let q = random(Plan::<f64>::new(4, &table, Givens).unwrap(), 9);
    assert!(
        refusal(&tampered(&work, &q, |_, plan| plan["n"] = 4_000_000_000_u64.into()))
            .contains("for a file of this size")
    );
    // What could not be loaded is not saved.
    let shared = Source::Chart { chart: Arc::new(Givens) as Arc<dyn Parametrization<f64>>, sharing: Sharing::All };
    let plan = Plan::from_stages(1 << 26, [(StageLayout::contiguous(2, 1 << 25), shared)]).unwrap();
    let many = (1..9).fold(plan.clone(), |all, _| all.then(plan.clone()).unwrap());
    let theta = vec![0.1; many.num_params()];
    let q = Orthogonal::<f64>::new(many, theta).unwrap();
    let error = q.save(work.path().join("large.safetensors")).unwrap_err().to_string();
    assert!(error.contains("can be loaded again"), "{error}");
    assert!(!work.path().join("large.safetensors").exists());
}

#[test]
fn numbers_that_are_none_are_refused() {
    let (work, q) = (TempDir::new().unwrap(), random(mixed::<f64>(), 10));
    q.save(file(&work)).unwrap();
    let bytes = fs::read(file(&work)).unwrap();
    let data = bytes.len() - split(&bytes).1.len();
    for (tensor, at) in [("theta", 3), ("stage.1.blocks", q.theta().len() + 5)] {
        for bad in [f64::NAN, f64::INFINITY] {
            let mut bytes = bytes.clone();
            bytes[data + 8 * at..data + 8 * at + 8].copy_from_slice(&bad.to_le_bytes());
            fs::write(file(&work), bytes).unwrap();
            let message = refusal(&file(&work));
            assert!(message.contains(tensor) && message.contains("finite"), "{message}");
        }
    }
    for length in (0..bytes.len()).step_by(13) {
        fs::write(file(&work), &bytes[..length]).unwrap();
        refusal(&file(&work));
    }
}

#[test]
fn nothing_but_safetensors_is_overwritten() {
    let work = TempDir::new().unwrap();
    let (q, path) = (random(mixed::<f64>(), 11), work.path().join("thesis.tex"));
    fs::write(&path, "precious").unwrap();
    assert!(matches!(q.save(&path), Err(Error::File { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    assert!(matches!(q.save(work.path().join("missing/q.safetensors")), Err(Error::File { .. })));
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn mutated_files_are_loaded_or_refused_and_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..6),
    ) {
        let work = TempDir::new().unwrap();
        random(mixed::<f64>(), 12).save(file(&work)).unwrap();
        let mut bytes = fs::read(file(&work)).unwrap();
        for (at, byte, kind) in changes {
            let at = at.index(bytes.len().max(1));
            match kind {
                0 => bytes[at] = byte,
                1 => bytes[at] = b"0123456789"[usize::from(byte) % 10], // other numbers in valid JSON
                2 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        fs::write(file(&work), &bytes).unwrap();
        if let Ok(q) = Orthogonal::<f64>::load(file(&work)) {
            prop_assert_eq!(q.theta().len(), q.plan().num_params());
        }
    }
}
