//! What the workers do: everything here runs in a process of its own, on bytes from strangers.

use std::fmt;
use std::io::Cursor;

use bytes::Bytes;
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, ImageReader, ImageResult, Limits};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// The longest side of an upload, in pixels.
const MAX_SIDE: u32 = 16_384;
/// The address space of a worker, in bytes. Room for a photograph and what resizing it takes.
const MAX_MEMORY: u64 = 512 << 20;

/// One piece of work. `Bytes` travels at the speed of a copy; a `Vec<u8>` goes byte by byte.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) format: Format,
    pub(crate) picture: Bytes,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    #[default]
    Png,
    Jpeg,
}

/// The upload is not a picture that can be resized. A task's own error is a value like any other:
/// it travels back as its result.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BadPicture(String);

/// The task. The picture keeps its proportions and fits into the order's width and height.
pub(crate) fn resize(order: Order) -> Result<Bytes, BadPicture> {
    limit_memory();
    render(&order).map_err(|error| BadPicture(error.to_string()))
}

fn render(order: &Order) -> ImageResult<Bytes> {
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    let mut reader = ImageReader::new(Cursor::new(&order.picture)).with_guessed_format()?;
    reader.limits(limits);
    let picture = reader.decode()?;
    let picture = picture.resize(order.width, order.height, FilterType::Lanczos3);
    let picture = match order.format {
        Format::Png => picture,
        Format::Jpeg => DynamicImage::ImageRgb8(picture.into_rgb8()),
    };
    let mut encoded = Cursor::new(Vec::new());
    picture.write_to(&mut encoded, order.format.into())?;
    Ok(Bytes::from(encoded.into_inner()))
}

/// Bounds this worker's memory. An allocation beyond it fails, and Rust ends the process then.
fn limit_memory() {
    let Rlimit { maximum, .. } = getrlimit(Resource::As);
    let current = Some(maximum.map_or(MAX_MEMORY, |maximum| maximum.min(MAX_MEMORY)));
    let limit = Rlimit { current, maximum };
    setrlimit(Resource::As, limit).expect("the limit is below what may be set");
}

impl Format {
    pub(crate) fn mime_type(self) -> &'static str {
        ImageFormat::from(self).to_mime_type()
    }
}

impl From<Format> for ImageFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Png => Self::Png,
            Format::Jpeg => Self::Jpeg,
        }
    }
}

impl fmt::Display for BadPicture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot resize this: {}", self.0)
    }
}
