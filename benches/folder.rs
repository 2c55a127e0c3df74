//! The scan as a program: `bench-folder scan|inflate PATH THREADS` prints the number of candidates in the
//! files of a folder, or in one file.

#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

mod support;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, mode, path, threads] = &arguments[..] else {
        println!("usage: bench-folder scan|inflate PATH THREADS");
        return;
    };
    let files = files(Path::new(path));
    let threads: usize = threads.parse().expect("a number");
    let candidates = Arc::new(support::one());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = 0;
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let body = std::fs::read(file).expect("a log file").into();
            if mode == "scan" {
                found += support::scan(&candidates, &body);
            } else {
                support::inflate(&body, |_| {});
            }
        }
        found
    };
    let found: usize = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended = running.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended.map(|found| found.expect("no panic")).sum()
    });
    println!("{found}");
}

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).expect("a folder");
    entries
        .map(|entry| entry.expect("a readable folder").path())
        .collect()
}
