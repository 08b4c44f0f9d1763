//! What the kernel says of a process: CPU seconds and memory (Linux; elsewhere there is nothing to read, and figures that
//! need it are left out).

use std::fs;

/// CPU seconds of a process, of the children it has waited for, and of those it has now.
pub(crate) fn cpu_seconds_of_tree(pid: u32) -> Option<f64> {
    let mut seconds = stat(pid)?.seconds_with_reaped;
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(other) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(child) = stat(other)
            && child.parent == pid
        {
            seconds += child.seconds_with_reaped;
        }
    }
    Some(seconds)
}

/// CPU seconds of a process.
pub(crate) fn cpu_seconds(pid: u32) -> Option<f64> {
    Some(stat(pid)?.seconds)
}

/// The most resident memory a process has had, in MiB.
pub(crate) fn peak_mib(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

struct Stat {
    parent: u32,
    seconds: f64,
    seconds_with_reaped: f64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    // Linux shows ticks of 10 ms to user space on every machine we build for.
    let seconds = (ticks(11)? + ticks(12)?) / 100.0;
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        seconds,
        seconds_with_reaped: seconds + (ticks(13)? + ticks(14)?) / 100.0,
    })
}
