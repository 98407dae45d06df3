//! The confusion matrix of the classification, as it stands in bench/README.md.
//!
//!     cargo run --release -p pgtrace-locality --example confusion
//!
//! prints Markdown, and writes `target/bench/patterns.json`. `--detail` adds a line for each generator.
#![allow(clippy::unwrap_used)]

#[path = "../tests/strings/mod.rs"]
mod strings;

use pgtrace_locality::patterns::Pattern;
use strings::{Generator, Tally, fresh, generators};

fn main() {
    let mut rounds = 80;
    let mut detail = false;
    let mut seed = 2027;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--detail" => detail = true,
            "--rounds" => rounds = args.next().unwrap().parse().unwrap(),
            "--seed" => seed = args.next().unwrap().parse().unwrap(),
            other => {
                eprintln!("unknown argument {other}: --detail, --rounds N, --seed N");
                std::process::exit(2);
            }
        }
    }
    let all = generators();
    let mut figures = Vec::new();
    let of = |generators: &[_]| {
        [0.0, 0.02, 0.05].map(|noise| (noise, Tally::measure(generators, rounds, noise, seed)))
    };
    let tallies = of(&all);
    let last = of(&fresh());

    println!(
        "| noise | strings | right | held-out generators | generators never tuned for | confidence >= 0.9 | of these right |"
    );
    println!("|---|---|---|---|---|---|---|");
    for ((noise, tally), (_, last)) in tallies.iter().zip(&last) {
        let (fresh, _) = last.right(|_, _, _| true);
        let (right, strings) = tally.right(|_, _, _| true);
        let (held_out, _) = tally.right(|generator, _, _| generator.held_out);
        let (sure, of) = tally.right(|_, _, confidence| confidence >= 0.9);
        println!(
            "| {:.0} % | {strings} | {:.1} % | {:.1} % | {:.1} % | {:.1} % | {:.1} % |",
            noise * 100.0,
            right * 100.0,
            held_out * 100.0,
            fresh * 100.0,
            of as f64 / strings as f64 * 100.0,
            sure * 100.0
        );
        for (metric, value) in [
            ("right", right),
            ("right, held-out generators", held_out),
            ("right, generators never tuned for", fresh),
            ("right at confidence >= 0.9", sure),
        ] {
            figures.push(format!(
                "  {{\"metric\": \"patterns: verdicts {metric}, noise {:.0} %\", \"value\": {value:.4}, \"unit\": \"share\", \"peer\": null, \"ratio\": null}}",
                noise * 100.0
            ));
        }
    }
    let refs: usize = tallies.iter().map(|(_, tally)| tally.refs).sum();
    let took: f64 = tallies
        .iter()
        .map(|(_, tally)| tally.took.as_secs_f64())
        .sum();
    let speed = refs as f64 / took / 1e6;
    println!("\nClassified: {speed:.1} million references a second on one thread.");
    figures.push(format!(
        "  {{\"metric\": \"patterns: classified, one thread\", \"value\": {speed:.2}, \"unit\": \"million references/s\", \"peer\": null, \"ratio\": null}}"
    ));
    for (noise, tally) in &tallies {
        println!(
            "\nNoise {:.0} %; a line is what a string is, a column what was said:\n",
            noise * 100.0
        );
        print!("| |");
        Pattern::ALL
            .iter()
            .for_each(|said| print!(" {} |", said.name()));
        println!(" right |\n|---|{}---|", "---|".repeat(Pattern::ALL.len()));
        for pattern in Pattern::ALL
            .into_iter()
            .filter(|&pattern| pattern != Pattern::Unknown)
        {
            print!("| {} |", pattern.name());
            Pattern::ALL
                .iter()
                .for_each(|&said| print!(" {} |", tally.count(pattern, said)));
            println!(
                " {:.1} % |",
                tally
                    .right(|generator, _, _| generator.pattern == pattern)
                    .0
                    * 100.0
            );
        }
    }
    if detail {
        print_detail(&all, &tallies);
        print_detail(&fresh(), &last);
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(
        folder.join("patterns.json"),
        format!("[\n{}\n]\n", figures.join(",\n")),
    )
    .unwrap();
}

/// A line for each generator (right at each noise, and what was said wrongly at 2 %), and how far confidence holds.
fn print_detail(generators: &[Generator], tallies: &[(f64, Tally); 3]) {
    for generator in generators {
        let held_out = if generator.held_out { "held out" } else { "" };
        print!(
            "{:11} {:50} {held_out:8}",
            generator.pattern.name(),
            generator.name
        );
        for (_, tally) in tallies {
            let (right, _) = tally.right(|other, _, _| other.name == generator.name);
            print!(" {:6.1}", right * 100.0);
        }
        let verdicts = tallies[1].1.verdicts.iter();
        let mut wrong: Vec<String> = verdicts
            .filter(|(other, said, _)| other.name == generator.name && other.pattern != *said)
            .map(|(_, said, confidence)| format!("{} {confidence:.2}", said.name()))
            .collect();
        wrong.sort();
        wrong.truncate(6);
        println!("  {}", wrong.join(", "));
    }
    for (low, high) in [
        (0.0, 0.5),
        (0.5, 0.6),
        (0.6, 0.7),
        (0.7, 0.8),
        (0.8, 0.9),
        (0.9, 0.95),
        (0.95, 1.1),
    ] {
        print!("confidence from {low:.2}");
        for (_, tally) in tallies {
            let (right, of) =
                tally.right(|_, _, confidence| confidence >= low && confidence < high);
            print!("  {:5.1} % of {of}", right * 100.0);
        }
        println!();
    }
}
