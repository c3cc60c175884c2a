//! Figures for people, and for programs.

use std::fmt;

use serde::Serialize;

/// What a figure is in, and how it is shown. Times are kept in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A time, shown in millionths of a second.
    Micros,
    /// A time, shown in thousandths of a second.
    Millis,
    /// Bytes.
    Bytes,
    /// A part of one, shown in hundredths.
    Percent,
    /// A number.
    Count,
}

/// One figure: of the floor, where there is one, and of the pool.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    what: String,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<f64>,
    pool: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
}

/// All figures of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    rows: Vec<Row>,
    /// What a reader of the figures has to know.
    pub notes: Vec<String>,
    #[serde(skip)]
    has_floor: bool,
}

impl Unit {
    fn shown(self, value: f64) -> (f64, &'static str) {
        match self {
            Self::Micros => (value * 1e6, "us"),
            Self::Millis => (value * 1e3, "ms"),
            Self::Bytes => (value, "bytes"),
            Self::Percent => (value * 100.0, "%"),
            Self::Count => (value, ""),
        }
    }
}

impl Row {
    /// The pool beside the floor.
    pub fn new(what: String, unit: Unit, floor: f64, pool: f64) -> Self {
        let ratio = (floor > 0.0 && unit != Unit::Percent).then_some(pool / floor);
        Self { floor: Some(unit.shown(floor).0), ratio, ..Self::alone(what, unit, pool) }
    }

    /// The pool beside the floor, where the one gathers what the other does at once: no ratio.
    pub fn unlike(what: String, unit: Unit, floor: f64, pool: f64) -> Self {
        Self { ratio: None, ..Self::new(what, unit, floor, pool) }
    }

    /// The pool alone.
    pub fn alone(what: String, unit: Unit, pool: f64) -> Self {
        let (pool, unit) = unit.shown(pool);
        Self { what, unit, floor: None, pool, ratio: None }
    }
}

impl Table {
    /// For the pool beside the floor.
    pub fn beside_the_floor() -> Self {
        Self { rows: Vec::new(), notes: Vec::new(), has_floor: true }
    }

    /// For a pool alone.
    pub fn alone() -> Self {
        Self { has_floor: false, ..Self::beside_the_floor() }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// As JSON, with a line break.
    pub fn json(&self) -> String {
        // Text and finite numbers: nothing in it can fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
        if self.has_floor {
            writeln!(f, "{:width$}  {:>10}  {:>10}", "", "floor", "sluice")?;
        }
        for Row { what, unit, floor, pool, ratio } in &self.rows {
            write!(f, "{what:width$}")?;
            if let Some(floor) = floor {
                write!(f, "  {:>10}", figure(*floor))?;
            }
            write!(f, "  {:>10} {unit:5}", figure(*pool))?;
            match ratio {
                Some(ratio) => writeln!(f, "  {ratio:6.2} x")?,
                None => writeln!(f)?,
            }
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "! {note}"))
    }
}

/// Three digits or more.
fn figure(value: f64) -> String {
    let digits = match value.abs() {
        below if below >= 100.0 || below.fract() == 0.0 => 0,
        below if below >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_for_people_and_for_programs() {
        let mut table = Table::beside_the_floor();
        table.push(Row::new("ack".into(), Unit::Micros, 0.000_050, 0.000_075));
        table.push(Row::new("half".into(), Unit::Percent, 0.5, 0.25));
        table.push(Row::new("none".into(), Unit::Bytes, 0.0, 3.0));
        table.push(Row::unlike("late".into(), Unit::Millis, 0.002, 0.5));
        table.notes.push("mind".into());
        let text = "           floor      sluice\n\
                    ack           50          75 us       1.50 x\n\
                    half          50          25 %    \n\
                    none           0           3 bytes\n\
                    late           2         500 ms   \n\
                    ! mind\n";
        assert_eq!(table.to_string(), text);
        let json: serde_json::Value = serde_json::from_str(&table.json()).unwrap();
        assert_eq!(json["rows"][1]["pool"], 25.0);
        assert!(json["rows"][1].get("ratio").is_none() && json["rows"][2].get("ratio").is_none());
        assert_eq!(json["notes"][0], "mind");
    }

    #[test]
    fn figures() {
        let check = |value: f64, expect: &str| assert_eq!(figure(value), expect);
        check(12345.6, "12346");
        check(123.4, "123");
        check(12.34, "12.3");
        check(1.234, "1.23");
        check(0.0, "0");
        check(7.0, "7");
    }
}
