//! What is known of clients by the name that they give themselves: what some need and most do not.

use ledger::Coinbases;
use share::Difficulty;

/// What a client needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Needs {
    /// It reckons with powers of two only.
    pub powers_of_two: bool,
    /// It refuses a lower difficulty. Within the operator's bounds, which come first.
    pub least: f64,
    /// How many jobs for one and the same block it may be sent at once; after those, one a second.
    pub jobs_at_once: u64,
    /// The longest coinbase that it takes, in bytes.
    pub coinbase_bytes: usize,
}

/// Of any client. It may have a few jobs at once (it names a difficulty while it starts, say), but not as many as it
/// likes: each one takes far more to make than to ask for.
static ANY: Needs = Needs::machine(Coinbases::SAFE_BYTES);

/// By the beginning of the name, in lower case.
static TABLE: [(&str, Needs); 8] = [
    // A market for hashrate (C-55): it takes no pool that asks for less than 500,000, reckons with powers of two, and
    // leaves pools that send more than one job a second.
    (
        "nicehash",
        Needs {
            powers_of_two: true,
            least: 524_288.0,
            jobs_at_once: 1,
            coinbase_bytes: Coinbases::SAFE_BYTES,
        },
    ),
    // How long a coinbase may be (C-40); the longer name of a kind before the shorter.
    ("antminer s21", Needs::machine(2_250)),
    ("antminer", Needs::machine(750)),
    ("bmminer", Needs::machine(750)),
    ("whatsminer", Needs::machine(6_500)),
    ("bitaxe", Needs::machine(16_000)),
    ("epic", Needs::machine(16_000)),
    ("xminer", Needs::machine(16_000)),
];

impl Needs {
    const fn machine(coinbase_bytes: usize) -> Self {
        Self { powers_of_two: false, least: 0.0, jobs_at_once: 8, coinbase_bytes }
    }

    /// Of a client with this name.
    pub fn of(agent: &str) -> &'static Self {
        let is_named = |name: &str| {
            agent.get(..name.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(name))
        };
        TABLE.iter().find(|(name, _)| is_named(name)).map_or(&ANY, |(_, needs)| needs)
    }

    /// `wanted` within `floor` and `ceiling`, and as this client can take it.
    pub fn held(&self, wanted: Difficulty, floor: Difficulty, ceiling: Difficulty) -> Difficulty {
        let least = Difficulty::new(self.least).unwrap_or(floor);
        let floor = if floor < least { least } else { floor };
        let floor = if floor > ceiling { ceiling } else { floor };
        let held = floor.get().max(wanted.get()).min(ceiling.get());
        let held = Difficulty::new(held).unwrap_or(wanted);
        if self.powers_of_two { nearest_power(held, floor, ceiling) } else { held }
    }
}

/// The power of two that is nearest to `value` between the bounds; `value` itself if there is none between them.
fn nearest_power(value: Difficulty, floor: Difficulty, ceiling: Difficulty) -> Difficulty {
    let power = |exponent: f64| Difficulty::new(exponent.exp2()).filter(|it| (floor..=ceiling).contains(it));
    let exponent = value.get().log2().round();
    [exponent, exponent - 1.0, exponent + 1.0].into_iter().find_map(power).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difficulty(value: f64) -> Difficulty {
        Difficulty::new(value).unwrap()
    }

    #[test]
    fn c55_who_is_who() {
        for agent in ["NiceHash/1.0.0", "nicehash", "NICEHASH/2"] {
            assert!(Needs::of(agent).powers_of_two, "{agent}");
        }
        for agent in ["", "cgminer/4.11.1", "NiceHas", "my NiceHash", "é", "niceh\u{e4}sh"] {
            assert_eq!(Needs::of(agent), &ANY, "{agent}");
        }
    }

    #[test]
    fn c36_c55_powers_of_two_within_the_bounds() {
        let check = |wanted: f64, floor: f64, ceiling: f64, expect: f64| {
            let held =
                Needs::of("NiceHash/1.0.0").held(difficulty(wanted), difficulty(floor), difficulty(ceiling));
            assert_eq!(held, difficulty(expect), "{wanted} in {floor}..={ceiling}");
        };
        check(1024.0, 0.001, 1e12, 524_288.0);
        check(500_000.0, 1.0, 1e12, 524_288.0);
        check(700_000.0, 1.0, 1e12, 524_288.0);
        check(800_000.0, 1.0, 1e12, 1_048_576.0);
        check(800_000.0, 1.0, 1e6, 524_288.0);
        check(600_000.0, 600_000.0, 1e12, 1_048_576.0);
        check(1e13, 1.0, 2_147_483_647.0, 1_073_741_824.0);
        // The operator's word comes before the client's.
        check(1024.0, 0.001, 1000.0, 1000.0);
        check(1e6, 600_000.0, 600_000.0, 600_000.0);
    }

    #[test]
    fn c40_how_long_a_coinbase_may_be() {
        let check = |agent: &str, bytes| assert_eq!(Needs::of(agent).coinbase_bytes, bytes, "{agent}");
        check("Antminer S21/Thu Mar 28 2024", 2_250);
        check("Antminer S19j Pro", 750);
        check("whatsminer/v1.1", 6_500);
        check("bitaxe/BM1368/v2.4.1", 16_000);
        check("NiceHash/1.0.0", 500);
        check("cgminer/4.11.1", 500);
        check("", 500);
    }

    #[test]
    fn others_take_any_number() {
        let held = |wanted| Needs::of("cgminer").held(difficulty(wanted), difficulty(0.5), difficulty(9.0));
        assert_eq!([0.1, 3.3, 10.0].map(held), [0.5, 3.3, 9.0].map(difficulty));
    }
}
