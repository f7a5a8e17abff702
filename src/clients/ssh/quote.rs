//! Arguments for the shell at the far end.
//!
//! `ssh` joins its arguments by blanks and hands the text to the login shell; only what is quoted here
//! arrives as it was.

use crate::error::{Error, Kind, Result};

/// Quotes an argument vector for a POSIX shell.
///
/// Fails with [`Kind::Usage`] on a NUL, which no argument can carry.
pub fn quote(argv: &[&str]) -> Result<String> {
    let mut line = String::new();
    for arg in argv {
        if arg.contains('\0') {
            return Err(Error::new(Kind::Usage, format!("argument {arg:?} holds a NUL")));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        let plain = !arg.is_empty() && arg.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:@%+,".contains(&b));
        if plain {
            line.push_str(arg);
        } else {
            line.push('\'');
            line.push_str(&arg.replace('\'', r"'\''"));
            line.push('\'');
        }
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_shell_reads_back_what_was_quoted(args in prop::collection::vec("(\\PC|[\n\t'\"$`\\\\!*?~#;&|<> =-]){0,12}", 1..5)) {
            let mut argv = vec!["printf", "%s\\0"];
            argv.extend(args.iter().map(String::as_str));
            let out = std::process::Command::new("sh").arg("-c").arg(quote(&argv).unwrap()).output().unwrap();
            let mut expected = Vec::new();
            for arg in &args {
                expected.extend_from_slice(arg.as_bytes());
                expected.push(0);
            }
            prop_assert_eq!(out.stdout, expected);
        }
    }

    #[test]
    fn nul_is_refused() {
        assert_eq!(quote(&["a\0b"]).unwrap_err().kind(), Kind::Usage);
    }
}
