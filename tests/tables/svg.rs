//! Drawings as SVG, in colours that are legible on a light page and on a dark one: which it will be is not always known.

use std::fmt::Write;

/// Colours of what is told apart, of like lightness.
pub const COLOURS: [&str; 7] = ["#3987cf", "#e0762f", "#45a065", "#c65a9a", "#8f76c9", "#b3923a", "#7c8894"];

pub struct Svg {
    width: f64,
    height: f64,
    body: String,
}

/// Where a text is beside its point.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    pub fn new(width: f64, height: f64) -> Self {
        Svg { width, height, body: String::new() }
    }

    /// Text of a class: `text` or `faint`.
    pub fn text(&mut self, [x, y]: [f64; 2], anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            self.body,
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" class="{class}">{text}</text>"#
        );
    }

    /// A line through points: in a colour, or faint.
    pub fn line(&mut self, points: &[[f64; 2]], colour: Option<&str>) {
        let points: Vec<String> = points.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
        let style = colour
            .map_or(r#"class="rule""#.to_owned(), |colour| format!(r#"class="curve" stroke="{colour}""#));
        let _ = writeln!(self.body, r#"<polyline points="{}" {style}/>"#, points.join(" "));
    }

    pub fn dot(&mut self, [x, y]: [f64; 2], colour: &str) {
        let _ = writeln!(self.body, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.2" fill="{colour}"/>"#);
    }

    pub fn bar(&mut self, [x, y]: [f64; 2], [width, height]: [f64; 2], colour: &str) {
        let _ = writeln!(
            self.body,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"/>"#
        );
    }

    pub fn finish(self) -> String {
        let Svg { width, height, body } = self;
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">
<style>
text {{ font: 12px system-ui, "Helvetica Neue", Arial, sans-serif; fill: #6e7781; }}
.title {{ font-weight: 600; }}
.faint {{ font-size: 11px; }}
.on {{ fill: #ffffff; }}
.rule {{ fill: none; stroke: #8b949e; stroke-opacity: 0.3; }}
.curve {{ fill: none; stroke-width: 2; stroke-linejoin: round; }}
</style>
{body}</svg>
"#
        )
    }
}

/// A rectangle with two axes, on each of which a value has its place.
pub struct Panel {
    pub corner: [f64; 2],
    pub size: [f64; 2],
    pub x: Axis,
    pub y: Axis,
}

/// From the least value to the greatest.
#[derive(Clone, Copy)]
pub struct Axis {
    pub from: f64,
    pub to: f64,
    pub logarithmic: bool,
}

impl Axis {
    /// Where a value is: 0 at the beginning, 1 at the end.
    fn place(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.logarithmic { value.ln() } else { value };
        (scale(value) - scale(self.from)) / (scale(self.to) - scale(self.from))
    }
}

impl Panel {
    pub fn at(&self, x: f64, y: f64) -> [f64; 2] {
        let [left, top] = self.corner;
        [left + self.size[0] * self.x.place(x), top + self.size[1] * (1.0 - self.y.place(y))]
    }

    /// Lines across at these values, and their names before them.
    pub fn rules(&self, svg: &mut Svg, marks: &[(f64, String)]) {
        for (value, name) in marks {
            let [left, y] = self.at(self.x.from, *value);
            svg.line(&[[left, y], [left + self.size[0], y]], None);
            svg.text([left - 8.0, y + 4.0], Anchor::End, "faint", name);
        }
    }

    /// Names under these values.
    pub fn feet(&self, svg: &mut Svg, marks: &[(f64, String)]) {
        for (value, name) in marks {
            let [x, _] = self.at(*value, self.y.from);
            svg.text([x, self.corner[1] + self.size[1] + 18.0], Anchor::Middle, "faint", name);
        }
    }
}
