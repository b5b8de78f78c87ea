//! `carve image …`: the images of this host.

use std::path::{Path, PathBuf};

use ::image::{Change, Image, Progress, Reference, Stage};
use anyhow::Context;
use clap::Subcommand;
use engine::Engine;
use indicatif::ProgressBar;
use serde_json::json;

use crate::{
    exit::Exit,
    format::{self, Format},
    progress,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  carve image ls\n  carve image load app.tar\n  carve image rm app")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Load images from an OCI layout, a directory or a tar of one
    #[command(
        after_help = "Examples:\n  carve image load app.tar\n  carve image load --name app:1 ./oci-layout"
    )]
    Load {
        /// Name the image; without it, images keep the names they have in the layout
        #[arg(long)]
        name: Option<Reference>,
        /// The layout
        source: PathBuf,
    },
    /// Make an image of file system tars, one layer each, the base layer first
    #[command(after_help = "Examples:\n  carve image import --name base rootfs.tar\n  \
                            carve image import --name app --change 'CMD [\"serve\"]' --change 'EXPOSE 80' base.tar app.tar")]
    Import {
        /// Name the image
        #[arg(long)]
        name: Reference,
        /// Change its configuration by a Dockerfile instruction: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER,
        /// VOLUME or WORKDIR
        #[arg(short, long, value_name = "INSTRUCTION")]
        change: Vec<Change>,
        /// The tars, plain or compressed
        #[arg(required = true, value_name = "TAR")]
        tars: Vec<PathBuf>,
    },
    /// List images
    #[command(after_help = "Examples:\n  carve image ls\n  carve image ls --format json")]
    Ls {
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Show everything about an image, as JSON
    #[command(after_help = "Example:\n  carve image inspect demo")]
    Inspect {
        /// The image
        image: Reference,
    },
    /// Remove images; what instances still use stays until they are removed
    #[command(after_help = "Example:\n  carve image rm demo")]
    Rm {
        /// The images
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<Reference>,
    },
    /// Write an image's root file system into an empty directory
    #[command(after_help = "Example:\n  carve image unpack demo ./rootfs")]
    Unpack {
        /// The image
        image: Reference,
        /// The directory; made when absent
        dir: PathBuf,
    },
}

pub(crate) fn run(root: &Path, args: Args) -> anyhow::Result<Exit> {
    let engine = Engine::open(root)?;
    let store = engine.images()?;
    match args.verb {
        Verb::Load { name, source } => {
            let images = with_bar(|report| store.load(&source, name.as_ref(), report))?;
            images.iter().for_each(|image| println!("{}", image.reference));
        }
        Verb::Import { name, change, tars } => {
            let image = with_bar(|report| store.import(&tars, &change, &name, report))?;
            println!("{}", image.manifest_digest);
        }
        Verb::Ls { format } => list(
            &store.list()?.iter().map(|l| store.resolve(&l.reference)).collect::<Result<Vec<_>, _>>()?,
            format,
        ),
        Verb::Inspect { image } => println!("{:#}", describe(&store.resolve(&image)?)),
        Verb::Rm { images } => {
            for image in images {
                engine.remove_image(&image)?;
                println!("{image}");
            }
        }
        Verb::Unpack { image, dir } => {
            std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
            store.resolve(&image)?.unpack(&dir)?;
        }
    }
    Ok(Exit::Success)
}

/// Does something with images, with a bar on a terminal.
fn with_bar<T, E>(work: impl FnOnce(&mut dyn FnMut(Progress<'_>)) -> Result<T, E>) -> Result<T, E> {
    let bar: ProgressBar = progress::bytes_bar();
    let result = work(&mut |progress: Progress<'_>| {
        let verb = match progress.stage {
            Stage::Opening => "opening",
            Stage::Layer => "layer",
        };
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        bar.set_message(format!("{verb} {}", progress.item));
    });
    bar.finish_and_clear();
    result
}

fn list(images: &[Image], format: Format) {
    let stored = |image: &Image| image.layers.iter().map(|l| l.erofs_size).sum::<u64>();
    let wire = |image: &Image| image.layers.iter().map(|l| l.compressed_size).sum::<u64>();
    if format == Format::Json {
        let list: Vec<_> = images
            .iter()
            .map(|image| {
                json!({
                    "reference": image.reference.to_string(),
                    "digest": image.manifest_digest.to_string(),
                    "layers": image.layers.len(),
                    "compressed_bytes": wire(image),
                    "stored_bytes": stored(image),
                })
            })
            .collect();
        println!("{:#}", serde_json::Value::from(list));
        return;
    }
    let mut table = format::table(["IMAGE", "DIGEST", "LAYERS", "COMPRESSED", "STORED"]);
    for image in images {
        let digest = image.manifest_digest.to_string();
        table.add_row([
            image.reference.to_string(),
            digest.chars().take("sha256:".len() + 12).collect(),
            image.layers.len().to_string(),
            format::bytes(wire(image)),
            format::bytes(stored(image)),
        ]);
    }
    println!("{table}");
}

fn describe(image: &Image) -> serde_json::Value {
    json!({
        "reference": image.reference.to_string(),
        "digest": image.manifest_digest.to_string(),
        "config": image.config,
        "layers": layers(image),
    })
}

/// An image's layers, the base layer first, with their sizes.
pub(crate) fn layers(image: &Image) -> Vec<serde_json::Value> {
    let layer = |layer: &::image::Layer| {
        json!({
            "digest": layer.digest.to_string(),
            "diff_id": layer.diff_id.to_string(),
            "media_type": layer.media_type,
            "compressed_bytes": layer.compressed_size,
            "stored_bytes": layer.erofs_size,
            "stored_at": layer.erofs,
        })
    };
    image.layers.iter().map(layer).collect()
}
