//! Pictures on one sheet: the composition, and its variations beside it.

use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_7X13;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::prelude::{DrawTarget, Drawable};
use embedded_graphics::text::{Alignment, Text};
use image::{Rgb, RgbImage, imageops};
use noisefork::sampling::record::Settings;
use noisefork::tensor::{Shaped, Tensor};

const MARGIN: usize = 8;
const CAPTION: usize = 20;
/// Pictures smaller than this are enlarged by a whole factor.
const LEGIBLE: usize = 128;
const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const INK: Rgb888 = Rgb888::new(64, 64, 64);

/// A picture of a sheet: item `item` of `images` (`[N, 3, H, W]` in [-1, 1]) and what to write below it.
pub struct Picture<'a> {
    pub images: &'a Tensor,
    pub item: usize,
    pub caption: String,
}

/// The variations that are `images`, the first of which is item `first` of its batch, each under its seed.
pub fn pictures<'a>(images: &'a Tensor, settings: &Settings, first: usize) -> Vec<Picture<'a>> {
    let caption = |item: usize| match settings {
        Settings::Variations(node) => format!("seed {} #{item}", node.variation_seed),
        Settings::Lineages(lineages) => {
            let segment = lineages.get(item).and_then(|lineage| lineage.segments.last());
            segment.map_or(format!("#{item}"), |segment| format!("seed {}", segment.seed))
        }
        _ => format!("#{item}"),
    };
    (0..images.shape()[0]).map(|item| Picture { images, item, caption: caption(first + item) }).collect()
}

/// The first picture at the left, if there is one, as high as the rows of the others.
pub fn sheet(first: Option<&Picture>, others: &[Picture]) -> RgbImage {
    let Some(any) = first.or(others.first()) else { return RgbImage::new(1, 1) };
    let [_, _, height, width] = *any.images.shape() else { return RgbImage::new(1, 1) };
    let scale = LEGIBLE.div_ceil(width.min(height)).max(1);
    let rows = ((others.len() as f64 / 2.0).sqrt() as usize).max(1);
    let columns = others.len().div_ceil(rows);
    let (cell_width, cell_height) = (scale * width + MARGIN, scale * height + CAPTION + MARGIN);

    let beside = first.map_or(0, |_| rows * scale * width + MARGIN);
    let (left, top) = (beside + MARGIN, MARGIN);
    let sheet_size = (left + columns * cell_width, top + rows * cell_height);
    let mut sheet = RgbImage::from_pixel(sheet_size.0 as u32, sheet_size.1 as u32, PAPER);
    if let Some(first) = first {
        paste(&mut sheet, first, rows * scale, [MARGIN, top]);
    }
    for (index, picture) in others.iter().enumerate() {
        let (row, column) = (index / columns, index % columns);
        paste(&mut sheet, picture, scale, [left + column * cell_width, top + row * cell_height]);
    }
    sheet
}

/// Draws a picture with its top left corner at `at`, enlarged by `scale`, and its caption below.
fn paste(sheet: &mut RgbImage, picture: &Picture, scale: usize, [x, y]: [usize; 2]) {
    let pixels = picture.pixels();
    let (width, height) = (scale as u32 * pixels.width(), scale as u32 * pixels.height());
    let pixels = imageops::resize(&pixels, width, height, imageops::FilterType::CatmullRom);
    imageops::replace(sheet, &pixels, x as i64, y as i64);
    let below = Point::new((x as u32 + width / 2) as i32, (y as u32 + height) as i32 + (CAPTION - 6) as i32);
    let style = MonoTextStyle::new(&FONT_7X13, INK);
    let Ok(_) =
        Text::with_alignment(&picture.caption, below, style, Alignment::Center).draw(&mut Canvas(sheet));
}

impl Picture<'_> {
    fn pixels(&self) -> RgbImage {
        let [_, channels, height, width] = *self.images.shape() else { return RgbImage::new(1, 1) };
        let plane = height * width;
        let item = &self.images.data()[self.item * channels * plane..][..channels * plane];
        RgbImage::from_fn(width as u32, height as u32, |x, y| {
            let pixel = y as usize * width + x as usize;
            Rgb([0, 1, 2].map(|channel: usize| to_byte(item[channel.min(channels - 1) * plane + pixel])))
        })
    }
}

/// [-1, 1] to [0, 255].
fn to_byte(value: f32) -> u8 {
    ((value.clamp(-1.0, 1.0) + 1.0) * 127.5).round() as u8
}

/// An image that `embedded-graphics` can write on.
struct Canvas<'a>(&'a mut RgbImage);

impl OriginDimensions for Canvas<'_> {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for Canvas<'_> {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = embedded_graphics::Pixel<Rgb888>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Self::Error> {
        for embedded_graphics::Pixel(point, colour) in pixels {
            if let (Ok(x), Ok(y)) = (u32::try_from(point.x), u32::try_from(point.y))
                && let Some(pixel) = self.0.get_pixel_mut_checked(x, y)
            {
                *pixel = Rgb([colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}
