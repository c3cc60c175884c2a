//! What miners write into the password field: `d=` (start difficulty) and `md=` (minimum), among anything else (C-24).

use share::Difficulty;

/// Wishes found in a password.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wishes {
    /// `d=` or `diff=`: where to start.
    pub start: Option<Difficulty>,
    /// `md=` or `mindiff=`: where to stop going down.
    pub min: Option<Difficulty>,
}

impl Wishes {
    /// Reads `key=value` pairs separated by commas, semicolons or spaces. What is not understood is passed over.
    pub fn parse(password: &str) -> Self {
        let mut wishes = Self::default();
        for pair in password.split([',', ';', ' ']) {
            let Some((key, value)) = pair.split_once('=') else { continue };
            let value = value.trim().parse().ok().and_then(Difficulty::new);
            match key.trim().to_ascii_lowercase().as_str() {
                "d" | "diff" | "fd" => wishes.start = value.or(wishes.start),
                "md" | "mindiff" => wishes.min = value.or(wishes.min),
                _ => {}
            }
        }
        wishes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c24_password_grammar() {
        let check = |password: &str, start: Option<f64>, min: Option<f64>| {
            let expect =
                Wishes { start: start.and_then(Difficulty::new), min: min.and_then(Difficulty::new) };
            assert_eq!(Wishes::parse(password), expect, "{password:?}");
        };
        check("x", None, None);
        check("", None, None);
        check("d=512", Some(512.0), None);
        check("x,d=0.5;md=0.25", Some(0.5), Some(0.25));
        check("diff=64 mindiff=32", Some(64.0), Some(32.0));
        check("D=16", Some(16.0), None);
        check("d=-1,md=nan", None, None);
        check("d=inf", None, None);
        check("d==,md", None, None);
        check("d=8,d=oops", Some(8.0), None);
    }
}
