//! A profile by symbol, for people and as JSON.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};

use serde::Serialize;
use serde_json::json;
use vmm::{Counters, Profile, VmExit};

use crate::format;

/// A symbol and what was spent there.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    symbol: String,
    instructions: u64,
    /// Of all instructions of the kernel, 0 to 1.
    share: f64,
    /// The share of this row and those before.
    cumulative_share: f64,
}

/// A profile as it is shown.
#[derive(Debug)]
pub(super) struct Report {
    rows: Vec<Row>,
    /// How many symbols are not shown, and their instructions.
    others: (usize, u64),
    end: VmExit,
    counters: Counters,
}

impl Report {
    /// The profile of a guest that ended like this, by what `name` calls an address, with the first `top` of these names
    /// (all for 0).
    pub(super) fn new(profile: &Profile, name: impl Fn(u64) -> String, end: VmExit, top: usize) -> Self {
        let mut by_symbol: HashMap<String, u64> = HashMap::new();
        for (address, instructions) in &profile.kernel {
            *by_symbol.entry(name(*address)).or_default() += instructions;
        }
        let all = by_symbol.values().sum();
        let mut sorted: Vec<_> = by_symbol.into_iter().collect();
        sorted.sort_by(|(name, spent), (other, more)| more.cmp(spent).then_with(|| name.cmp(other)));
        let shown = if top == 0 { sorted.len() } else { top.min(sorted.len()) };
        let rest = sorted.split_off(shown);
        let mut so_far = 0;
        let rows = sorted.into_iter().map(|(symbol, instructions)| {
            so_far += instructions;
            Row {
                symbol,
                instructions,
                share: ratio(instructions, all),
                cumulative_share: ratio(so_far, all),
            }
        });
        Self {
            rows: rows.collect(),
            others: (rest.len(), rest.iter().map(|(_, instructions)| instructions).sum()),
            end,
            counters: profile.counters.clone(),
        }
    }

    /// Everything, with times in nanoseconds.
    pub(super) fn to_json(&self) -> serde_json::Value {
        let Self { rows, others, end, counters } = self;
        json!({
            "end": end,
            "kernel_instructions": counters.kernel_instructions,
            "user_instructions": counters.user_instructions,
            "million_instructions_per_second": counters.speed(),
            "blocks": counters.blocks,
            "blocks_decoded": counters.decoded,
            "decode_hits": counters.decode_hits(),
            "pages_rewritten": counters.rewritten,
            "accesses": counters.accesses,
            "page_walks": counters.walks,
            "tlb_hits": counters.tlb_hits(),
            "native_entries": counters.native_entries,
            "interpreting_ns": nanoseconds(counters.interpreting),
            "native_ns": nanoseconds(counters.native),
            "halted_ns": nanoseconds(counters.halted),
            "symbols": rows,
            "others": { "symbols": others.0, "instructions": others.1 },
        })
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { rows, others, end, counters } = self;
        writeln!(f, "{:>15} {:>8} {:>11}   SYMBOL", "INSTRUCTIONS", "SHARE", "CUMULATIVE")?;
        for Row { symbol, instructions, share, cumulative_share } in rows {
            let (share, so_far) = (percent(*share), percent(*cumulative_share));
            writeln!(f, "{:>15} {share:>8} {so_far:>11}   {symbol}", format::grouped(*instructions))?;
        }
        if others.0 > 0 {
            let (symbols, instructions) = (format::grouped(others.0 as u64), format::grouped(others.1));
            writeln!(f, "{instructions:>15} {:>8} {:>11}   in {symbols} others", "", "")?;
        }
        let Counters { interpreting, native, halted, .. } = counters;
        let ended = match end {
            VmExit::Reset => "the guest reset itself",
            VmExit::PoweredOff => "the guest powered itself off",
            VmExit::Stopped => "it was stopped",
        };
        let seconds = |time: &std::time::Duration| format!("{:.3} s", time.as_secs_f64());
        writeln!(f)?;
        let mut line = |what: &str, figures: String| writeln!(f, "{what:<16} {figures}");
        line("ran", format!("{}, then {ended}", seconds(&(*interpreting + *native + *halted))))?;
        line(
            "time",
            format!(
                "{} interpreting, {} in native programs, {} halted",
                seconds(interpreting),
                seconds(native),
                seconds(halted)
            ),
        )?;
        line(
            "instructions",
            format!(
                "{} of the kernel, {} of programs (not those that ran natively)",
                format::grouped(counters.kernel_instructions),
                format::grouped(counters.user_instructions)
            ),
        )?;
        if let Some(speed) = counters.speed() {
            line("speed", format!("{speed:.1} million instructions/s while interpreting"))?;
        }
        if let Some(hits) = counters.decode_hits() {
            let (blocks, decoded) = (format::grouped(counters.blocks), format::grouped(counters.decoded));
            line("decode cache", format!("{} hits; {blocks} blocks run, {decoded} decoded", finely(hits)))?;
        }
        if let Some(hits) = counters.tlb_hits() {
            let (accesses, walks) = (format::grouped(counters.accesses), format::grouped(counters.walks));
            line("TLB", format!("{} hits; {accesses} accesses, {walks} page walks", finely(hits)))?;
        }
        line("native entries", format::grouped(counters.native_entries))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people to read")]
fn ratio(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn finely(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

fn nanoseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::expect;

    use super::*;

    fn profile() -> Profile {
        Profile {
            counters: Counters {
                kernel_instructions: 1_234_567,
                user_instructions: 2_000,
                blocks: 250_000,
                decoded: 2_500,
                accesses: 500_000,
                walks: 250,
                native_entries: 12,
                interpreting: Duration::from_micros(20_500),
                native: Duration::from_millis(4),
                halted: Duration::from_millis(1_000),
                ..Counters::default()
            },
            kernel: vec![
                (0x1000, 600_000),
                (0x1010, 300_000),
                (0x2000, 334_000),
                (0x3000, 500),
                (0x4000, 67),
            ],
        }
    }

    fn name(address: u64) -> String {
        ["start", "copy_page", "clear_page", "idle", "panic"][usize::try_from(address >> 12).unwrap()].into()
    }

    #[test]
    fn people_read_a_table_with_the_most_expensive_symbol_first() {
        expect![[r#"
               INSTRUCTIONS    SHARE  CUMULATIVE   SYMBOL
                    900,000   72.9 %      72.9 %   copy_page
                    334,000   27.1 %     100.0 %   clear_page
                        567                        in 2 others

            ran              1.024 s, then the guest powered itself off
            time             0.021 s interpreting, 0.004 s in native programs, 1.000 s halted
            instructions     1,234,567 of the kernel, 2,000 of programs (not those that ran natively)
            speed            60.3 million instructions/s while interpreting
            decode cache     99.00 % hits; 250,000 blocks run, 2,500 decoded
            TLB              99.95 % hits; 500,000 accesses, 250 page walks
            native entries   12
        "#]]
        .assert_eq(&Report::new(&profile(), name, VmExit::PoweredOff, 2).to_string());
    }

    #[test]
    fn programs_read_exact_figures() {
        let json = Report::new(&profile(), name, VmExit::Stopped, 0).to_json();
        assert_eq!((&json["end"], &json["kernel_instructions"]), (&"stopped".into(), &1_234_567.into()));
        assert_eq!((&json["interpreting_ns"], &json["decode_hits"]), (&20_500_000.into(), &0.99.into()));
        assert_eq!(json["others"], json!({ "symbols": 0, "instructions": 0 }));
        assert_eq!(json["symbols"].as_array().map(Vec::len), Some(4));
        assert_eq!(
            json["symbols"][3],
            json!({ "symbol": "panic", "instructions": 67, "share": 67.0 / 1_234_567.0, "cumulative_share": 1.0 })
        );
    }

    #[test]
    fn a_guest_that_ran_nothing_has_no_rates() {
        let report = Report::new(&Profile::default(), name, VmExit::Stopped, 20);
        assert_eq!(report.to_json()["tlb_hits"], serde_json::Value::Null);
        assert!(!report.to_string().contains("TLB"), "{report}");
    }
}
