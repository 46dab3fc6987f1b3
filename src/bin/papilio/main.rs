//! The `papilio` command: merge orthogonal adapters, look into files, check orthogonality, compare topologies, fit, time, measure
//! random rotations.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod convert;
mod extract;
mod fit;
mod inspect;
mod merge;
mod operator;
mod picture;
mod preserved;
mod progress;
mod rotate;
mod signals;
mod text;
mod topology;
mod verify;

/// Structured orthogonal matrices on the command line: merge orthogonal adapters into their base model, look into model
/// files, check that a matrix is orthogonal, compare topologies, find the fast algorithm of a given matrix, time your sizes,
/// measure random rotations.
#[derive(Debug, Parser)]
#[command(name = "papilio", version, max_term_width = 100, arg_required_else_help = true, after_help = EXIT)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Merge(merge::Arguments),
    Unmerge(merge::UnmergeArguments),
    Convert(convert::Arguments),
    Extract(extract::Arguments),
    Inspect(inspect::Arguments),
    Verify(verify::Arguments),
    Topology(topology::Arguments),
    Fit(fit::Arguments),
    Bench(bench::Arguments),
    Rotate(rotate::Arguments),
}

const EXIT: &str = "\
Exit codes:
  0    done
  1    verify: not orthogonal, or not preserved
  2    bad usage, bad input, or a file that cannot be read or written
  130  interrupted (SIGINT, which is Ctrl-C, SIGTERM or SIGHUP)
Every command takes --json and then, unless it fails with 2 or 130, prints one JSON object on standard output. Errors and \
warnings go to standard error as text. `papilio help COMMAND` shows examples.";

/// How a command ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    NotOrthogonal,
    Interrupted,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Merge(arguments) => arguments.run(),
        Command::Unmerge(arguments) => arguments.run(),
        Command::Convert(arguments) => arguments.run(),
        Command::Extract(arguments) => arguments.run(),
        Command::Inspect(arguments) => arguments.run(),
        Command::Verify(arguments) => arguments.run(),
        Command::Topology(arguments) => arguments.run(),
        Command::Fit(arguments) => arguments.run(),
        Command::Bench(arguments) => arguments.run(),
        Command::Rotate(arguments) => arguments.run(),
    };
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::NotOrthogonal) => ExitCode::from(1),
        Ok(Outcome::Interrupted) => ExitCode::from(130),
        Err(message) => {
            text::complain("error", &message);
            ExitCode::from(2)
        }
    }
}
