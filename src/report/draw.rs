//! A sheet of paper: lines, boxes, marks and text on white, as SVG or PNG.
//!
//! Pictures for the screen are made with twice the points. `sans.ttf`, from which text is measured and, for PNG, drawn, is
//! a part of DejaVu Sans with the letters of western languages (`sans.LICENSE`).

use std::io::Cursor;

use ab_glyph::{Font, FontRef, Glyph, PxScale, ScaleFont, point};
use image::{ExtendedColorType, ImageEncoder};
use plotters::coord::Shift;
use plotters::prelude::{
    BitMapBackend, Circle, Color, DrawingArea, DrawingAreaErrorKind, DrawingBackend, IntoDrawingArea, IntoFont,
    PathElement, Polygon, RGBColor, Rectangle, SVGBackend, Text, TextStyle,
};
use plotters::style::FontTransform;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::plot::PlotError;

/// The font of text in SVG: what viewers have under that name.
const FAMILY: &str = "sans-serif";

/// The font text is measured with, and drawn with in PNG.
const FONT: &[u8] = include_bytes!("sans.ttf");

/// Dots of a PNG for one of the sheet.
const DENSITY: u32 = 2;

/// The colours: they differ in grey too.
pub(super) const WHITE: RGBColor = RGBColor(0xff, 0xff, 0xff);
pub(super) const BLACK: RGBColor = RGBColor(0x1a, 0x1a, 0x1a);
pub(super) const GREY: RGBColor = RGBColor(0xd6, 0xd6, 0xd6);
pub(super) const DIM: RGBColor = RGBColor(0x59, 0x59, 0x59);
pub(super) const BLUE: RGBColor = RGBColor(0x7f, 0xa8, 0xd1);

/// Where a text stands in relation to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    /// It begins there, its middle at that height.
    Left,
    /// It ends there.
    Right,
    /// Its middle is there.
    Middle,
    /// Its middle is there, and it runs upwards.
    Upwards,
}

/// What a sheet can have on it; in dots from the top left.
pub(super) trait Sheet {
    fn line(&mut self, points: &[(f64, f64)], color: RGBColor, width: f64);
    fn rectangle(&mut self, corner: (f64, f64), opposite: (f64, f64), color: RGBColor);
    fn polygon(&mut self, points: &[(f64, f64)], filled: bool, color: RGBColor);
    fn circle(&mut self, center: (f64, f64), radius: f64, filled: bool, color: RGBColor);
    fn text(&mut self, text: &str, at: (f64, f64), size: f64, anchor: Anchor, color: RGBColor);
    /// Width of a text. Its size is that of an em.
    fn width(&self, text: &str, size: f64) -> f64;
}

/// A text cut, with an ellipsis, so that it is no wider.
pub(super) fn fitted(sheet: &dyn Sheet, text: &str, size: f64, most: f64) -> String {
    let text = printable(text);
    if sheet.width(&text, size) <= most {
        return text;
    }
    let mut kept: Vec<char> = text.chars().take(400).collect();
    while !kept.is_empty() {
        let shortened: String = kept.iter().collect::<String>().trim_end().to_owned() + "…";
        if sheet.width(&shortened, size) <= most {
            return shortened;
        }
        kept.pop();
    }
    String::new()
}

/// The text in one line, without what XML cannot hold or what turns the direction of writing.
fn printable(text: &str) -> String {
    let stray = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}')
    };
    text.chars().map(|c| if stray(c) { '?' } else { c }).collect()
}

/// Draws as SVG.
pub(super) fn svg(size: (u32, u32), draw: impl FnOnce(&mut dyn Sheet)) -> Result<Vec<u8>, PlotError> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        paint(area, 1.0, false, draw)?;
    }
    Ok(text.into_bytes())
}

/// Draws as PNG.
pub(super) fn png(size: (u32, u32), draw: impl FnOnce(&mut dyn Sheet)) -> Result<Vec<u8>, PlotError> {
    let (width, height) = (size.0 * DENSITY, size.1 * DENSITY);
    let mut pixels = vec![0; width as usize * height as usize * 3];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        paint(area, f64::from(DENSITY), true, draw)?;
    }
    let mut bytes = Cursor::new(Vec::new());
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    encoder
        .write_image(&pixels, width, height, ExtendedColorType::Rgb8)
        .map_err(|error| PlotError(error.to_string()))?;
    Ok(bytes.into_inner())
}

/// The font; an error only if the program itself is damaged.
fn font() -> Result<FontRef<'static>, PlotError> {
    FontRef::try_from_slice(FONT).map_err(|error| PlotError(error.to_string()))
}

fn paint<B: DrawingBackend>(
    area: DrawingArea<B, Shift>,
    scale: f64,
    draws_letters: bool,
    draw: impl FnOnce(&mut dyn Sheet),
) -> Result<(), PlotError> {
    let failed = |error: DrawingAreaErrorKind<B::ErrorType>| PlotError(error.to_string());
    area.fill(&WHITE).map_err(failed)?;
    let mut paper = Paper { area: &area, scale, font: font()?, draws_letters, failed: None };
    draw(&mut paper);
    match paper.failed {
        Some(error) => Err(failed(error)),
        None => area.present().map_err(failed),
    }
}

/// A sheet of the drawing library.
struct Paper<'a, B: DrawingBackend> {
    area: &'a DrawingArea<B, Shift>,
    scale: f64,
    font: FontRef<'static>,
    /// Whether letters are drawn here, dot by dot; else whoever shows the picture does it.
    draws_letters: bool,
    /// The first thing that went wrong.
    failed: Option<DrawingAreaErrorKind<B::ErrorType>>,
}

impl<B: DrawingBackend> Paper<'_, B> {
    fn at(&self, (x, y): (f64, f64)) -> (i32, i32) {
        ((x * self.scale).round() as i32, (y * self.scale).round() as i32)
    }

    fn thickness(&self, width: f64) -> u32 {
        ((width * self.scale).round() as u32).max(1)
    }

    fn style(&self, size: f64, color: RGBColor) -> TextStyle<'static> {
        let size = size * self.scale * LIBRARY_SIZE;
        TextStyle { color: color.to_backend_color(), ..TextStyle::from((FAMILY, size).into_font()) }
    }

    fn keep(&mut self, result: Result<(), DrawingAreaErrorKind<B::ErrorType>>) {
        if let Err(error) = result {
            self.failed.get_or_insert(error);
        }
    }
}

impl<B: DrawingBackend> Sheet for Paper<'_, B> {
    fn line(&mut self, points: &[(f64, f64)], color: RGBColor, width: f64) {
        let points: Vec<(i32, i32)> = points.iter().map(|&point| self.at(point)).collect();
        let style = color.stroke_width(self.thickness(width));
        self.keep(self.area.draw(&PathElement::new(points, style)));
    }

    fn rectangle(&mut self, corner: (f64, f64), opposite: (f64, f64), color: RGBColor) {
        self.keep(self.area.draw(&Rectangle::new([self.at(corner), self.at(opposite)], color.filled())));
    }

    fn polygon(&mut self, points: &[(f64, f64)], filled: bool, color: RGBColor) {
        if filled {
            let points: Vec<(i32, i32)> = points.iter().map(|&point| self.at(point)).collect();
            self.keep(self.area.draw(&Polygon::new(points, color)));
        }
        let closed: Vec<(f64, f64)> = points.iter().chain(points.first()).copied().collect();
        self.line(&closed, color, 1.4);
    }

    fn circle(&mut self, center: (f64, f64), radius: f64, filled: bool, color: RGBColor) {
        let style = if filled { color.filled() } else { color.stroke_width(self.thickness(1.4)) };
        let radius = (radius * self.scale).round() as i32;
        self.keep(self.area.draw(&Circle::new(self.at(center), radius, style)));
    }

    fn text(&mut self, text: &str, at: (f64, f64), size: f64, anchor: Anchor, color: RGBColor) {
        let text = printable(text);
        if self.draws_letters {
            return self.letters(&text, at, size, anchor, color);
        }
        let style = self.style(size, color);
        let (style, horizontal) = match anchor {
            Anchor::Left => (style, HPos::Left),
            Anchor::Right => (style, HPos::Right),
            Anchor::Middle => (style, HPos::Center),
            Anchor::Upwards => (style.transform(FontTransform::Rotate270), HPos::Center),
        };
        let style = style.pos(Pos::new(horizontal, VPos::Center));
        self.keep(self.area.draw(&Text::new(text, self.at(at), style)));
    }

    fn width(&self, text: &str, size: f64) -> f64 {
        let (_, width) = self.set(text, size);
        width / self.scale
    }
}

/// The size the drawing library has to be given for an em of one.
const LIBRARY_SIZE: f64 = 1.24;

/// The size the library for letters has to be given for an em of one: the distance from the lowest to the highest letter.
const HEIGHT: f64 = 1.164;

/// Height of the capitals by the em.
const CAPITALS: f64 = 0.73;

impl<B: DrawingBackend> Paper<'_, B> {
    /// The letters of a text from the origin on, and its width, in dots of the picture.
    fn set(&self, text: &str, size: f64) -> (Vec<Glyph>, f64) {
        let scale = PxScale::from((size * self.scale * HEIGHT) as f32);
        let font = self.font.as_scaled(scale);
        let mut glyphs = Vec::new();
        let mut x = 0.0;
        let mut before = None;
        for c in text.chars() {
            let id = font.glyph_id(c);
            x += before.map_or(0.0, |before| font.kern(before, id));
            glyphs.push(id.with_scale_and_position(scale, point(x, 0.0)));
            x += font.h_advance(id);
            before = Some(id);
        }
        (glyphs, f64::from(x))
    }

    /// Draws a text dot by dot.
    fn letters(&mut self, text: &str, at: (f64, f64), size: f64, anchor: Anchor, color: RGBColor) {
        let (glyphs, width) = self.set(text, size);
        let begin = match anchor {
            Anchor::Left => 0.0,
            Anchor::Right => -width,
            Anchor::Middle | Anchor::Upwards => -width / 2.0,
        };
        let below = size * self.scale * CAPITALS / 2.0;
        let (x, y) = (at.0 * self.scale, at.1 * self.scale);
        let dots = self.area.dim_in_pixel();
        for mut glyph in glyphs {
            glyph.position.x += begin as f32;
            glyph.position.y += below as f32;
            let Some(outline) = self.font.outline_glyph(glyph) else { continue };
            let corner = outline.px_bounds().min;
            let mut covered = Vec::new();
            outline.draw(|dx, dy, share| covered.push((corner.x + dx as f32, corner.y + dy as f32, share)));
            for (dx, dy, share) in covered.into_iter().filter(|(_, _, share)| *share > 0.0) {
                let (dx, dy) = (f64::from(dx), f64::from(dy));
                let (x, y) = if anchor == Anchor::Upwards { (x + dy, y - dx) } else { (x + dx, y + dy) };
                let dot = (x.round() as i32, y.round() as i32);
                if (0..dots.0 as i32).contains(&dot.0) && (0..dots.1 as i32).contains(&dot.1) {
                    self.keep(self.area.draw_pixel(dot, &color.mix(f64::from(share.min(1.0)))));
                }
            }
        }
    }
}
