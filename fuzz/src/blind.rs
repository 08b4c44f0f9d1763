//! The driver that needs nothing but Rust: every known input as it is, then known inputs that were changed at random. A run can be
//! repeated by its seed, and an input that breaks a promise is written down.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::target::TARGETS;

/// Longer ones find nothing else, and take their time.
const LONGEST: usize = 8192;

thread_local! {
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// `fuzz list`, or `fuzz TARGET SECONDS SEED ARTIFACTS DICTIONARY INPUT…`, where an input is a file or a folder of files.
pub fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["list"] {
        TARGETS.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    let [name, seconds, seed, artifacts, dictionary, inputs @ ..] = arguments.as_slice() else {
        eprintln!("usage: fuzz list | fuzz TARGET SECONDS SEED ARTIFACTS DICTIONARY INPUT...");
        std::process::exit(2);
    };
    let (name, run) = crate::target(name);
    let number = |text: &String| text.parse::<u64>().unwrap_or_else(|_| panic!("{text:?} is no number"));
    let (seconds, seed) = (Duration::from_secs(number(seconds)), number(seed));
    let known = inputs.iter().map(|input| files(Path::new(input))).collect::<Result<Vec<_>, _>>()?.concat();
    assert!(!known.is_empty(), "no inputs");
    let words = words(&fs::read_to_string(dictionary)?);

    fs::create_dir_all(artifacts)?;
    let artifact = PathBuf::from(artifacts).join(format!("blind-{name}-{seed}"));
    let said = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        said(info);
        let written = INPUT.with_borrow(|input| fs::write(&artifact, input));
        eprintln!("{name}: the input is in {} ({written:?})", artifact.display());
        std::process::exit(1);
    }));

    let began = Instant::now();
    let mut count = 0u64;
    for input in &known {
        take(run, input.clone());
        count += 1;
    }
    let mut random = SmallRng::seed_from_u64(seed);
    while began.elapsed() < seconds {
        for _ in 0..256 {
            take(run, changed(&mut random, &known, &words));
        }
        count += 256;
    }
    println!(
        "{name}: {count} inputs from {} known ones in {} s, seed {seed}",
        known.len(),
        began.elapsed().as_secs()
    );
    Ok(())
}

fn take(run: fn(&[u8]), input: Vec<u8>) {
    INPUT.set(input);
    INPUT.with_borrow(|input| run(input));
}

fn files(input: &Path) -> std::io::Result<Vec<Vec<u8>>> {
    if input.is_file() {
        return Ok(vec![fs::read(input)?]);
    }
    let mut paths =
        fs::read_dir(input)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    // The order of a folder is no order.
    paths.sort();
    paths.iter().filter(|path| path.is_file()).map(fs::read).collect()
}

/// The words of a dictionary in libFuzzer's form.
fn words(dictionary: &str) -> Vec<Vec<u8>> {
    let quoted = |line: &str| {
        let inside = line.split_once('"')?.1.strip_suffix('"')?;
        let (mut word, mut rest) = (Vec::new(), inside.bytes());
        while let Some(byte) = rest.next() {
            word.push(match byte {
                b'\\' => match rest.next()? {
                    b'x' => {
                        let digits = [rest.next()?, rest.next()?];
                        u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                    }
                    other => other,
                },
                byte => byte,
            });
        }
        Some(word)
    };
    dictionary.lines().filter(|line| !line.starts_with('#')).filter_map(quoted).collect()
}

fn changed(random: &mut SmallRng, known: &[Vec<u8>], words: &[Vec<u8>]) -> Vec<u8> {
    let mut input = known.choose(random).cloned().unwrap_or_default();
    for _ in 0..1 << random.random_range(0..5) {
        change(random, &mut input, known, words);
    }
    input.truncate(LONGEST);
    input
}

fn change(random: &mut SmallRng, input: &mut Vec<u8>, known: &[Vec<u8>], words: &[Vec<u8>]) {
    let at = random.random_range(0..=input.len());
    let end = (at + random.random_range(1..=16)).min(input.len());
    match random.random_range(0..10) {
        0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
        1 if at < input.len() => input[at] = random.random(),
        2 => drop(input.drain(at..end)),
        3 => {
            let part = input[at..end].to_vec();
            input.splice(at..at, part);
        }
        4 | 5 => {
            let word = words.choose(random).cloned().unwrap_or_default();
            input.splice(at..at, word);
        }
        6 => {
            let word = words.choose(random).cloned().unwrap_or_default();
            input.splice(at..end, word);
        }
        7 => {
            let other = known.choose(random).cloned().unwrap_or_default();
            let from = random.random_range(0..=other.len());
            let to = (from + random.random_range(1..=64)).min(other.len());
            input.splice(at..end, other[from..to].iter().copied());
        }
        // Digits are where money is.
        8 => {
            let digits: Vec<usize> = (0..input.len()).filter(|at| input[*at].is_ascii_digit()).collect();
            if let Some(at) = digits.choose(random) {
                input[*at] = *b"0123456789.-eE+".choose(random).unwrap_or(&b'0');
            }
        }
        _ => {
            let (from, length) = (random.random_range(0..=input.len()), random.random_range(1..=256));
            let part = input[from..(from + length).min(input.len())].to_vec();
            input.splice(at..at, part);
        }
    }
}
