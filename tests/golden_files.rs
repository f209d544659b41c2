//! Golden files are whole: what README counts is in them.

mod support;

use support::golden::Golden;

#[test]
fn no_case_is_lost() {
    let unets = ["sd15", "sd15_four_levels", "sd15_inpaint", "sd21", "sdxl"];
    let unets = unets.map(|name| (format!("unet_{name}/reference"), 6));
    let others = [
        ("noise", 130),
        ("schedules", 711),
        ("samplers", 384),
        ("variations_toy", 30),
        ("variations_emoji", 30),
    ];
    for (name, cases) in others.map(|(name, cases)| (name.to_owned(), cases)).into_iter().chain(unets) {
        assert_eq!(Golden::open(&name).cases().len(), cases, "{name}");
    }
}
