//! A report for people: lines of at most 100 letters.

use super::report::{Call, Report, Side, Step};
use std::fmt::Write;

/// Letters of the names of machine parts that are shown.
const NAME_MAX: usize = 48;

/// The whole report.
pub fn table(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, report);
    text
}

fn write(text: &mut String, report: &Report) -> std::fmt::Result {
    let machine = &report.machine;
    let processor: String = machine.processor.chars().take(NAME_MAX).collect();
    writeln!(
        text,
        "drystone {}: {} s for each step in {} rounds; medians. MB = 10^6 bytes, GiB = 2^30.",
        report.version, report.seconds, report.rounds
    )?;
    writeln!(
        text,
        "machine   {} cores, {}",
        machine.cores,
        processor.trim_end()
    )?;
    writeln!(
        text,
        "          Linux {}, writes {} the page cache",
        machine.kernel,
        if machine.direct_io {
            "around"
        } else {
            "through"
        }
    )?;
    writeln!(
        text,
        "SHA-256   {:.0} MB/s on one core, {:.0} MB/s on all",
        machine.sha256_core_mb_s, machine.sha256_all_cores_mb_s
    )?;
    writeln!(
        text,
        "alone     one block: hash {:.2} ms, write and sync {:.2} ms; write and sync of 4 KiB {:.2} ms\n",
        machine.hash_block_ms, machine.sync_block_ms, machine.sync_4k_ms
    )?;
    write_steps(text, report)?;
    write_calls(text, report)?;
    write_goals(text, report)
}

fn write_steps(text: &mut String, report: &Report) -> std::fmt::Result {
    let row = |name: &str| format!("{name:<30}");
    writeln!(
        text,
        "{}{:>9}{:>9}{:>9}{:>9}   CPU s/GiB:{:>7}{:>7}",
        row(""),
        "in flight",
        "MB/s",
        "p50 ms",
        "p99 ms",
        "server",
        "load"
    )?;
    for disk in &report.limits.disk {
        writeln!(
            text,
            "{}{:>9}{:>9.0}",
            row("limit: disk"),
            disk.in_flight,
            disk.mb_s
        )?;
    }
    let (limits, product) = (&report.limits, &report.product);
    let groups: [(&str, &[Step]); 7] = [
        ("limit: HTTP, hash, discard", &limits.http_put),
        ("put, durable, unique", &product.put_unique),
        ("put, duplicate", &product.put_duplicate),
        ("put, zeros", &product.put_zero),
        ("limit: HTTP, from memory", &limits.http_get),
        ("get, in the page cache", &product.get_cached),
        ("get, page cache dropped", &product.get_cold),
    ];
    for (name, steps) in groups {
        for step in steps {
            writeln!(
                text,
                "{}{:>9}{:>9.0}{:>9.2}{:>9.2}             {:>7.2}{:>7.2}",
                row(name),
                step.in_flight,
                step.mb_s,
                step.p50_ms,
                step.p99_ms,
                step.server_cpu_s_per_gib,
                step.load_cpu_s_per_gib
            )?;
        }
    }
    writeln!(text)
}

fn write_calls(text: &mut String, report: &Report) -> std::fmt::Result {
    let product = &report.product;
    let call = |call: &Call| {
        format!(
            "p50 {:.2} ms, p99 {:.2} ms; first after a restart, page cache dropped: {:.2} ms",
            call.p50_ms, call.p99_ms, call.cold_ms
        )
    };
    writeln!(text, "list of {} blocks", product.list.items)?;
    writeln!(text, "  {}", call(&product.list))?;
    writeln!(
        text,
        "diff of {} changes between maps of {} blocks, scattered over 64 TiB",
        product.diff.items, product.diff.map_blocks
    )?;
    writeln!(text, "  {}", call(&product.diff))?;
    for complete in &product.complete {
        writeln!(
            text,
            "complete, {}: {:.1} ms",
            complete.snapshot, complete.ms
        )?;
    }
    writeln!(
        text,
        "start after kill -9: {:.0} ms",
        product.start_after_kill_ms
    )?;
    writeln!(
        text,
        "memory of the server after all puts and gets: {:.0} MiB resident, {:.0} MiB at most\n",
        product.memory.resident_mib, product.memory.peak_mib
    )
}

fn write_goals(text: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(
        text,
        "to the limit (the smaller of disk and HTTP; put_latency_1: to one hash and two syncs)"
    )?;
    let mut missing: Vec<_> = report.ratios.iter().collect();
    for goal in &report.goals {
        missing.retain(|(name, _)| **name != goal.name);
        let side = match goal.is {
            Side::AtLeast => "at least",
            Side::AtMost => "at most",
        };
        let met = if goal.met { "met" } else { "MISSED" };
        writeln!(
            text,
            "  {:<20}{:>9.2}   goal: {side:>8} {:>6.2}   {met}",
            goal.name, goal.value, goal.goal
        )?;
    }
    for (name, ratio) in missing {
        writeln!(text, "  {name:<20}{ratio:>9.2}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    #[test]
    fn the_table_fits_and_says_what_is_missed() {
        let text = table(&report());
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{line}");
            assert_eq!(line, line.trim_end());
        }
        for part in [
            "put, durable, unique                 16      900     8.00    80.00",
            "limit: disk                          64     3000\n",
            "durable_put_16           0.90   goal: at least   0.80   met\n",
            "durable_put_64           0.60   goal: at least   0.80   MISSED\n",
            "diff_ms                 60.00   goal:  at most  50.00   MISSED\n",
            "durable_put_1            0.40\n",
        ] {
            assert!(text.contains(part), "no `{part}` in\n{text}");
        }
    }
}
