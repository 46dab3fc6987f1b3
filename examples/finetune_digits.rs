//! Fine-tuning on real data: a classifier of handwritten digits meets cameras that it was not trained with.
//!
//! ```text
//! cargo run --release --features cli --example finetune_digits                       # minutes; pictures into a temporary directory
//! cargo run --release --features cli --example finetune_digits -- docs/finetuning    # or into another one
//! cargo run --release --features cli --example finetune_digits -- --quick            # seconds: a part of it, with few steps
//! ```
//!
//! A 64-256-256-10 network is trained on 1200 images of 8×8 pixels. Then the camera is mounted mirrored and transposed, or its
//! pixels come in another order, or a lamp flickers. 300 labelled images of the new camera adapt the first layer by
//! rotations of its inputs (BOFT, OFT, other wirings), by LoRA, or as a whole; the rate is chosen on 60 of them. 597 other
//! images are the test. What came out of it, and what it says, is in `docs/finetuning.md`.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};
use papilio::adapter::train::Dropout;
use papilio::topology::Butterfly;
use papilio::{Orthogonal, Plan, parametrization::Cayley};
use rayon::prelude::*;

#[path = "finetune_digits/adapters.rs"]
mod adapters;
#[path = "finetune_digits/data.rs"]
mod data;
#[path = "finetune_digits/network.rs"]
mod network;
#[path = "figures/plot.rs"]
mod plot;
#[path = "finetune_digits/study.rs"]
mod study;

use adapters::{Method, rotated};
use data::Camera;
use network::{Dense, Network, pretrained};
use plot::{Axis, Curve, Panel, Point, picture};
use study::{Effort, Run, best, mean, run};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A method with its best runs, one for each seed.
struct Row {
    method: Method,
    runs: Vec<Run>,
}

impl Row {
    fn accuracy(&self) -> (f64, f64) {
        mean(&self.runs.iter().map(|run| run.accuracy).collect::<Vec<_>>())
    }
}

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|a| a == "--quick");
    let out = arguments.iter().find(|a| !a.starts_with("--"));
    let out = out.map_or_else(|| std::env::temp_dir().join("papilio-finetuning"), PathBuf::from);
    if let Some(unknown) = arguments.iter().find(|a| a.starts_with("--") && *a != "--quick") {
        return Err(format!("unknown option {unknown}; there is only --quick").into());
    }
    fs::create_dir_all(&out)?;
    let effort = if quick {
        Effort { pretraining: 200, steps: 60, seeds: 1, rates: |_| &[3e-2] }
    } else {
        Effort { pretraining: 600, steps: 400, seeds: 5, rates: Method::rates }
    };
    let all = data::digits()?;
    let original = Camera::original(&all);
    let bar = bar(effort.pretraining, "pretraining")?;
    let network = pretrained(&original.known, effort.pretraining, || bar.inc(1))?;
    bar.finish_and_clear();
    let (before, _) = run(Method::None, &original, &network, (0, 0.0, 0), 0)?;
    println!("pretrained: {:.1} % of the test images of the original camera\n", before.accuracy);

    let cameras = [Camera::turned(&all), Camera::shuffled(&all), Camera::flickering(&all)];
    let mut panels = Vec::new();
    for camera in &cameras {
        let rows = table(&methods(quick), camera, &network, &effort, camera.name)?;
        print(camera.name, &rows, &effort);
        csv(&out, camera.name, &rows)?;
        panels.push(accuracies(camera.name, &rows));
        if camera.name == cameras[0].name {
            fs::write(out.join("interpolation.svg"), picture(&interpolation(&rows, [camera, &original], &network)?)?)?;
            fs::write(out.join("training.svg"), picture(&training(&rows, camera, &network, &effort)?)?)?;
        }
    }
    fs::write(out.join("accuracy.svg"), picture(&panels)?)?;
    let rows = table(&with_dropout(quick), &cameras[0], &network, &effort, "dropout")?;
    print(&format!("{}, with multiplicative dropout", cameras[0].name), &rows, &effort);
    fs::write(out.join("rates.svg"), picture(&rates(&cameras[0], &network, &effort)?)?)?;
    println!("pictures and tables are in {}", out.display());
    Ok(())
}

fn bar(length: usize, message: &str) -> Outcome<ProgressBar> {
    let bar = ProgressBar::new(length as u64); // draws on a terminal only
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} {wide_msg}")?);
    bar.set_message(message.to_string());
    Ok(bar)
}

fn boft(m: usize, b: usize) -> Method {
    Method::Boft { m, b, dropout: None }
}

fn methods(quick: bool) -> Vec<Method> {
    if quick {
        return vec![Method::None, Method::Lora { r: 2 }, Method::Oft { b: 8 }, boft(6, 2), boft(5, 4)];
    }
    let mut list = vec![Method::None, Method::Probe, Method::First, Method::All];
    list.extend([1, 2, 4].map(|r| Method::Lora { r }));
    list.extend([4, 8, 16, 32].map(|b| Method::Oft { b }));
    list.extend([(3, 2), (6, 2), (3, 4), (5, 4), (2, 8), (4, 8)].map(|(m, b)| boft(m, b)));
    list.extend([Method::Neumann { b: 16 }, Method::Butterflies, Method::Shuffle]);
    list
}

/// The same rotations without dropout, by the paper's rule and by PEFT's.
fn with_dropout(quick: bool) -> Vec<Method> {
    let rules = [None, Some(Dropout::Paper { factors: 0.5, blocks: 0.1 }), Some(Dropout::Peft { share: 0.15 })];
    let sizes = if quick { &[(5, 4)][..] } else { &[(6, 2), (5, 4)] };
    sizes.iter().flat_map(|&(m, b)| rules.map(|dropout| Method::Boft { m, b, dropout })).collect()
}

/// All methods, seeds and rates, on all cores; the best rate of each by validation.
fn table(list: &[Method], camera: &Camera, network: &[Dense; 3], effort: &Effort, message: &str) -> Outcome<Vec<Row>> {
    let jobs: Vec<(usize, u64, f64)> = (0..list.len())
        .flat_map(|k| (0..effort.seeds).map(move |seed| (k, seed)))
        .flat_map(|(k, seed)| (effort.rates)(list[k]).iter().map(move |rate| (k, seed, *rate)))
        .collect();
    let (bar, done) = (bar(jobs.len(), message)?, Mutex::new(Vec::new()));
    jobs.into_par_iter().try_for_each(|(k, seed, rate)| -> papilio::Result<()> {
        let (run, _) = run(list[k], camera, network, (effort.steps, rate, seed), 0)?;
        bar.inc(1);
        done.lock().map(|mut done| done.push((k, seed, run))).ok();
        Ok(())
    })?;
    bar.finish_and_clear();
    let mut done = done.into_inner()?;
    done.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.rate.total_cmp(&b.2.rate)));
    let of = |k: usize, seed: u64| -> Vec<Run> {
        done.iter().filter(|run| (run.0, run.1) == (k, seed)).map(|run| run.2.clone()).collect()
    };
    let row = |k: usize| Row {
        method: list[k],
        runs: (0..effort.seeds).filter_map(|seed| best(&of(k, seed)).cloned()).collect(),
    };
    Ok((0..list.len()).map(row).collect())
}

fn dropout_name(method: Method) -> &'static str {
    match method {
        Method::Boft { dropout: Some(Dropout::Paper { .. }), .. } => ", half of the factors, 10 % of the blocks",
        Method::Boft { dropout: Some(Dropout::Peft { .. }), .. } => ", 15 % of one factor",
        _ => "",
    }
}

fn print(title: &str, rows: &[Row], effort: &Effort) {
    println!("{title} ({} steps, {} splits of the labels)\n", effort.steps, effort.seeds);
    println!("| method | parameters | accuracy % | rates chosen | seconds |\n|---|---|---|---|---|");
    for row in rows {
        let ((accuracy, sd), run) = (row.accuracy(), &row.runs[0]);
        let mut rates: Vec<f64> = row.runs.iter().map(|run| run.rate).collect();
        rates.sort_by(f64::total_cmp);
        rates.dedup();
        let rates: Vec<String> = rates.iter().map(|rate| format!("{rate}")).collect();
        let rates = if row.method == Method::None { String::new() } else { rates.join(", ") };
        let (seconds, _) = mean(&row.runs.iter().map(|run| run.seconds).collect::<Vec<_>>());
        println!(
            "| {}{} | {} | {accuracy:.1} ± {sd:.1} | {rates} | {seconds:.2} |",
            row.method.name(),
            dropout_name(row.method),
            run.parameters
        );
    }
    println!();
}

fn csv(out: &Path, name: &str, rows: &[Row]) -> Outcome {
    let mut text = "method,parameters,seed,rate,validation,test\n".to_string();
    for row in rows {
        for (seed, run) in row.runs.iter().enumerate() {
            text += &format!(
                "\"{}\",{},{seed},{},{:.2},{:.2}\n",
                row.method.name(),
                run.parameters,
                run.rate,
                run.validation.0,
                run.accuracy
            );
        }
    }
    Ok(fs::write(out.join(format!("{}.csv", name.replace(' ', "-"))), text)?)
}

/// Accuracy against parameters, one curve for each family.
fn accuracies(title: &str, rows: &[Row]) -> Panel {
    let mut curves: Vec<Curve> = Vec::new();
    for row in rows.iter().filter(|row| row.method != Method::None) {
        let ((y, sd), x) = (row.accuracy(), row.runs[0].parameters as f64);
        let (name, point) = (row.method.family(), Point { x, y, sd, open: false });
        match curves.iter_mut().find(|curve| curve.name == name) {
            Some(curve) => curve.points.push(point),
            None => curves.push(Curve { name, points: vec![point] }),
        }
    }
    let (x, y) = (Axis { label: "trained parameters", log: true }, Axis { label: "accuracy %", log: false });
    Panel { title: title.to_string(), x, y, curves }
}

/// BOFT's weight interpolation: accuracy with the new and with the old camera while factors are switched off, the last ones first.
fn interpolation(rows: &[Row], cameras: [&Camera; 2], network: &[Dense; 3]) -> Outcome<Vec<Panel>> {
    let mut panels = Vec::new();
    for row in rows {
        let Method::Boft { m, b, .. } = row.method else { continue };
        if ![(6, 2), (5, 4)].contains(&(m, b)) {
            continue;
        }
        let plan = Plan::<f32>::new(data::PIXELS, &Butterfly::boft(m, b)?, Cayley)?;
        let mut curves = Vec::new();
        for camera in cameras {
            let mut points = Vec::new();
            for kept in 0..=m {
                let mut accuracies = Vec::new();
                for run in &row.runs {
                    let part = Orthogonal::new(plan.clone(), &run.theta)?.truncate(kept)?;
                    let mut layer = rotated(&network[0], part.plan().clone())?;
                    layer.set_theta(part.theta())?;
                    let mut first = adapters::Rotated::fixed(layer)?;
                    let rest = [network[1].clone(), network[2].clone()];
                    let score = Network { first: &mut first, rest }.score(&camera.test)?;
                    accuracies.push(score.accuracy);
                }
                let (y, sd) = mean(&accuracies);
                points.push(Point { x: kept as f64, y, sd, open: false });
            }
            curves.push(Curve { name: camera.name.to_string(), points });
        }
        let (x, y) = (Axis { label: "factors kept", log: false }, Axis { label: "accuracy %", log: false });
        panels.push(Panel { title: format!("{}: factors switched off one by one", row.method.name()), x, y, curves });
    }
    Ok(panels)
}

/// Orthogonality and spectral norm during training, with the rate that was chosen most often.
fn training(rows: &[Row], camera: &Camera, network: &[Dense; 3], effort: &Effort) -> Outcome<Vec<Panel>> {
    let wanted = [boft(5, 4), Method::Oft { b: 16 }, Method::Lora { r: 2 }, Method::Lora { r: 4 }, Method::First];
    let mut list: Vec<(Method, f64)> = Vec::new();
    for row in rows.iter().filter(|row| wanted.contains(&row.method)) {
        let rate = row.runs[0].rate;
        list.push((row.method, rate));
        if let Method::Oft { b } = row.method {
            list.push((Method::Neumann { b }, rate));
        }
    }
    let (mut defects, mut norms) = (Vec::new(), Vec::new());
    for (method, rate) in list {
        let every = (effort.steps / 40).max(1);
        let (_, sights) = run(method, camera, network, (effort.steps, rate, 0), every)?;
        let curve = |y: &dyn Fn(&study::Sight) -> Option<f64>| Curve {
            name: method.name(),
            points: sights
                .iter()
                .filter_map(|s| y(s).map(|y| Point { x: s.step as f64, y, sd: 0.0, open: false }))
                .collect(),
        };
        if sights.iter().any(|s| s.defect.is_some()) {
            defects.push(curve(&|s| s.defect.filter(|_| s.step > 0))); // at the start, R is I
        }
        norms.push(curve(&|s| Some(s.norm)));
    }
    let x = || Axis { label: "step", log: false };
    Ok(vec![
        Panel {
            title: "‖RᵀR − I‖ (certified bound, single precision)".into(),
            x: x(),
            y: Axis { label: "defect", log: true },
            curves: defects,
        },
        Panel {
            title: "Spectral norm of the adapted weight over the pretrained one's".into(),
            x: x(),
            y: Axis { label: "‖W'‖ / ‖W‖", log: true },
            curves: norms,
        },
    ])
}

/// OFT of several block sizes at the same rates, plain and divided by the root of the parameters of a block.
fn rates(camera: &Camera, network: &[Dense; 3], effort: &Effort) -> Outcome<Vec<Panel>> {
    type Make = fn(usize) -> Method;
    let kinds: [(&str, Make, [f64; 6]); 2] = [
        ("the same rate for every parameter", |b| Method::Oft { b }, [1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1]),
        ("rate/√k for blocks of k parameters", |b| Method::Scaled { b }, [1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0]),
    ];
    let mut panels = Vec::new();
    for (title, make, rates) in kinds {
        let jobs: Vec<(usize, f64)> = [8, 16, 32, 64].into_iter().flat_map(|b| rates.map(|rate| (b, rate))).collect();
        let bar = bar(jobs.len(), "rates")?;
        let point = |(b, rate): (usize, f64)| -> papilio::Result<(usize, Point)> {
            let run = |seed| run(make(b), camera, network, (effort.steps, rate, seed), 0).map(|(run, _)| run.accuracy);
            let (y, sd) = mean(&(0..effort.seeds).map(run).collect::<papilio::Result<Vec<_>>>()?);
            bar.inc(1);
            Ok((b, Point { x: rate, y, sd, open: false }))
        };
        let mut curves: Vec<Curve> = Vec::new();
        for (b, point) in jobs.into_par_iter().map(point).collect::<papilio::Result<Vec<_>>>()? {
            let name = make(b).name();
            match curves.last_mut().filter(|curve| curve.name == name) {
                Some(curve) => curve.points.push(point),
                None => curves.push(Curve { name, points: vec![point] }),
            }
        }
        bar.finish_and_clear();
        let (x, y) = (Axis { label: "rate", log: true }, Axis { label: "accuracy %", log: false });
        panels.push(Panel { title: title.into(), x, y, curves });
    }
    Ok(panels)
}
