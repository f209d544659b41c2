//! Plots, each by the name of its file.

use noisefork::sampling::{Betas, ModelSampling, Scheduler};

use crate::record::Record;
use crate::records::Records;
use crate::svg::{Anchor, Axis, COLOURS, Panel, Svg};
use crate::tables::{by_operation, growth, pixels, taken_apart};

/// Those that there are records for, each of the machine that was measured last among those that have them.
pub fn all(machines: &[Records]) -> Vec<(&'static str, String)> {
    let newest = |plot: fn(&Records) -> Option<String>| machines.iter().find_map(plot);
    let plots = [("growth", newest(costs)), ("step", newest(step)), ("sigmas", Some(sigmas()))];
    plots.into_iter().filter_map(|(name, svg)| Some((name, svg?))).collect()
}

/// The time of an answer of the SD 1.5 UNet against the batch and against the picture's side.
fn costs(records: &Records) -> Option<String> {
    let ours = || records.ours("unet sd15 ");
    let of_batch = growth(ours(), |record| (pixels(record) == Some(512)).then_some(record.batch));
    let of_side = growth(ours(), |record| pixels(record).filter(|_| record.batch == 1));
    if of_batch.len() < 2 || of_side.len() < 2 {
        return None;
    }
    let mut svg = Svg::new(760.0, 320.0);
    let times = of_batch.iter().chain(&of_side).map(|(_, record)| record.best());
    let y = Axis {
        from: times.clone().fold(f64::MAX, f64::min) / 1.3,
        to: times.fold(0.0, f64::max) * 1.3,
        logarithmic: true,
    };
    let titles = ["pictures at a time, 512 pixels to a side", "pixels to a side, one picture"];
    for ((found, title), left) in [of_batch, of_side].iter().zip(titles).zip([56.0, 436.0]) {
        let values = found.iter().map(|(value, _)| *value as f64);
        let (from, to) = (values.clone().fold(f64::MAX, f64::min), values.clone().fold(0.0, f64::max));
        let x = Axis { from: from / 1.15, to: to * 1.15, logarithmic: true };
        let panel = Panel { corner: [left, 40.0], size: [300.0, 220.0], x, y };
        svg.text([left, 22.0], Anchor::Start, "title", title);
        panel.rules(&mut svg, &decades(y));
        let mut marks: Vec<f64> = values.collect();
        marks.sort_by(f64::total_cmp);
        marks.dedup();
        panel.feet(&mut svg, &marks.iter().map(|mark| (*mark, mark.to_string())).collect::<Vec<_>>());
        for (dtype, colour) in ["f32", "bf16"].iter().zip(COLOURS) {
            let points: Vec<[f64; 2]> = found
                .iter()
                .filter(|(_, record)| record.dtype == *dtype)
                .map(|(value, record)| panel.at(*value as f64, record.best()))
                .collect();
            let Some(&[x, y]) = points.last() else { continue };
            svg.line(&points, Some(colour));
            points.iter().for_each(|&point| svg.dot(point, colour));
            svg.text([x - 4.0, y - 10.0], Anchor::End, "title", dtype);
        }
    }
    svg.text(
        [56.0, 308.0],
        Anchor::Start,
        "faint",
        "one answer of the SD 1.5 UNet, best of its passes; both axes logarithmic",
    );
    Some(svg.finish())
}

/// 1, 2 and 5 of each power of ten within an axis of seconds.
fn decades(axis: Axis) -> Vec<(f64, String)> {
    let powers = axis.from.log10().floor() as i32..=axis.to.log10().ceil() as i32;
    let marks = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|mark| mark * 10f64.powi(power)));
    let within = marks.filter(|mark| (axis.from * 0.999..=axis.to).contains(mark));
    within
        .map(|mark| (mark, if mark < 0.9 { format!("{:.0} ms", mark * 1e3) } else { format!("{mark:.0} s") }))
        .collect()
}

/// Which operations take which share of a step.
fn step(records: &Records) -> Option<String> {
    let steps: Vec<&Record> = taken_apart(records).collect();
    if steps.is_empty() {
        return None;
    }
    let (left, width, bar, pitch, top) = (150.0, 590.0, 30.0, 46.0, 48.0);
    let names: Vec<String> = by_operation(&steps[0].parts).into_iter().map(|part| part.what).collect();
    let mut svg = Svg::new(760.0, top + pitch * steps.len() as f64 + 16.0);
    let mut x = left;
    for (name, colour) in names.iter().zip(COLOURS) {
        svg.bar([x, 14.0], [11.0, 11.0], colour);
        svg.text([x + 16.0, 24.0], Anchor::Start, "", name);
        x += 34.0 + 6.6 * name.len() as f64;
    }
    for (record, row) in steps.iter().zip(0..) {
        let y = top + pitch * f64::from(row);
        let what = record.what.trim_start_matches("unet ");
        svg.text([left - 10.0, y + 13.0], Anchor::End, "title", what);
        let detail = format!("{}, {:.1} s", record.dtype, record.best());
        svg.text([left - 10.0, y + 27.0], Anchor::End, "faint", &detail);
        let whole: f64 = record.parts.iter().map(|part| part.seconds).sum();
        let parts = by_operation(&record.parts);
        let mut x = left;
        for (name, colour) in names.iter().zip(COLOURS) {
            let Some(part) = parts.iter().find(|part| part.what == *name) else { continue };
            let share = part.seconds / whole;
            svg.bar([x, y], [width * share, bar], colour);
            if share > 0.05 {
                let middle = [x + width * share / 2.0, y + bar / 2.0 + 4.0];
                svg.text(middle, Anchor::Middle, "on", &format!("{:.0} %", 100.0 * share));
            }
            x += width * share;
        }
    }
    Some(svg.finish())
}

/// The levels of every schedule, one small panel each, its own line over those of all.
fn sigmas() -> String {
    const STEPS: usize = 20;
    const COLUMNS: usize = 6;
    let model = ModelSampling::eps(Betas::STABLE_DIFFUSION).unwrap();
    let schedules: Vec<(&str, Vec<f32>)> = Scheduler::names()
        .filter_map(|name| {
            let scheduler: Scheduler = name.parse().unwrap();
            // Some have nothing to say to this model or this number of steps.
            Some((name, scheduler.sigmas(&model, STEPS).ok()?))
        })
        .collect();
    // Zero, where all end, has no place among logarithms.
    let above_zero = |sigmas: &[f32]| -> Vec<f64> {
        sigmas.iter().map(|&sigma| f64::from(sigma)).filter(|&sigma| sigma > 0.0).collect()
    };
    let all: Vec<f64> = schedules.iter().flat_map(|(_, sigmas)| above_zero(sigmas)).collect();
    let [lowest, highest] =
        [all.iter().copied().fold(f64::MAX, f64::min), all.iter().copied().fold(0.0, f64::max)];
    let (across, down) = (124.0, 116.0);
    let rows = schedules.len().div_ceil(COLUMNS);
    let mut svg = Svg::new(760.0, down * rows as f64 + 30.0);
    for ((name, own), at) in schedules.iter().zip(0..) {
        let (column, row) = (at % COLUMNS, at / COLUMNS);
        let panel = Panel {
            corner: [12.0 + across * column as f64, 24.0 + down * row as f64],
            size: [across - 20.0, down - 34.0],
            x: Axis { from: 0.0, to: STEPS as f64, logarithmic: false },
            y: Axis { from: lowest, to: highest, logarithmic: true },
        };
        let curve = |sigmas: &[f32]| -> Vec<[f64; 2]> {
            let levels = above_zero(sigmas).into_iter().zip(0..);
            levels.map(|(sigma, step)| panel.at(f64::from(step), sigma)).collect()
        };
        schedules.iter().for_each(|(_, sigmas)| svg.line(&curve(sigmas), None));
        svg.line(&curve(own), Some(COLOURS[0]));
        svg.text([panel.corner[0], panel.corner[1] - 6.0], Anchor::Start, "title", name);
    }
    let foot = format!(
        "σ of Stable Diffusion over {STEPS} steps, from {highest:.0} at the top to {lowest:.3} at the bottom, logarithmic; the \
         others in grey"
    );
    svg.text([12.0, down * rows as f64 + 18.0], Anchor::Start, "faint", &foot);
    svg.finish()
}
