//! The code that the build script embedded, and what can run it.

/// Bytes at an address that the driver can read structures from.
#[repr(C, align(64))]
pub struct Aligned<T: ?Sized>(pub T);

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// How a device gets to run the embedded code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// It has its own, or that of an older device of its family.
    Machine,
    /// The driver compiles PTX for it.
    Ptx,
}

/// What a device of compute capability `(major, minor)` makes of code for `architectures`; `None`: nothing.
///
/// Machine code runs within a major version, on minors from its own up; that of `sm_90a` on 9.0 alone (CUDA C++
/// Programming Guide, "Binary Compatibility" and "Feature-Specific Compute Capabilities").
pub fn code_for<'a>(
    architectures: impl IntoIterator<Item = &'a str>,
    (major, minor): (u32, u32),
) -> Option<Code> {
    let runs = |architecture: &str| {
        let (code, name) = match architecture.split_once('_')? {
            ("sm", name) => (Code::Machine, name),
            ("compute", name) => (Code::Ptx, name),
            _ => return None,
        };
        let digits = name.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let number: u32 = digits.parse().ok()?;
        let of = (number / 10, number % 10);
        let fits = match (code, &name[digits.len()..]) {
            (Code::Machine, "") => of.0 == major && of.1 <= minor,
            (Code::Ptx, "") => of <= (major, minor),
            _ => of == (major, minor),
        };
        fits.then_some(code)
    };
    architectures.into_iter().filter_map(runs).min_by_key(|code| *code == Code::Ptx)
}

/// The oldest CUDA version, as the driver counts it, that takes the code.
///
/// A driver takes machine code of every release of its major version, but PTX only of those up to its own (CUDA
/// Compatibility, "Minor Version Compatibility").
pub fn driver_for(release: &str, code: Code) -> (u32, u32) {
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match code {
        Code::Machine => (major, 0),
        Code::Ptx => (major, minor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 7] = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120", "compute_80"];

    #[test]
    fn devices_run_code_of_their_family_and_newer_ones_ptx() {
        let cases = [
            ((7, 5), None),
            ((8, 0), Some(Code::Machine)),
            ((8, 7), Some(Code::Machine)),
            ((8, 9), Some(Code::Machine)),
            ((9, 0), Some(Code::Machine)),
            ((10, 0), Some(Code::Machine)),
            ((10, 3), Some(Code::Machine)),
            ((11, 0), Some(Code::Ptx)),
            ((12, 1), Some(Code::Machine)),
            ((13, 0), Some(Code::Ptx)),
        ];
        for (capability, code) in cases {
            assert_eq!(code_for(ALL, capability), code, "{capability:?}");
        }
    }

    #[test]
    fn older_and_special_code_is_not_run() {
        assert_eq!(code_for(["sm_86"], (8, 0)), None);
        assert_eq!(code_for(["sm_90a"], (9, 1)), None);
        assert_eq!(code_for(["sm_90a"], (10, 0)), None);
        assert_eq!(code_for(["compute_90a"], (9, 0)), Some(Code::Ptx));
        assert_eq!(code_for(["compute_90a"], (10, 0)), None);
        assert_eq!(code_for(["compute_80", "sm_90a"], (9, 0)), Some(Code::Machine));
        assert_eq!(code_for(["90", "sm_", "nonsense"], (9, 0)), None);
        assert_eq!(code_for([], (9, 0)), None);
    }

    #[test]
    fn ptx_wants_a_driver_of_its_release_and_machine_code_of_its_major_version() {
        assert_eq!(driver_for("13.2", Code::Machine), (13, 0));
        assert_eq!(driver_for("13.2", Code::Ptx), (13, 2));
    }
}
