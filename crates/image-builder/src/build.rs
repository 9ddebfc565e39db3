//! The whole way from arguments to the two output files.

use std::fs::File;
use std::io::BufWriter;

use crate::arguments::Arguments;
use crate::descriptor::{About, IMAGE_FILE};
use crate::error::{Error, Result};
use crate::filesystem::Plan;
use crate::tree::Tree;
use crate::{archive, descriptor, facts, filesystem, manifest, qcow2};

/// Build the image; on an error the output folder may hold unfinished files, and its owner is
/// expected to throw it away.
pub(crate) fn build(arguments: &Arguments) -> Result<()> {
    let mut tree = Tree::new(arguments.epoch);
    for path in &arguments.archives {
        archive::read(&mut tree, path)?;
    }
    for path in &arguments.manifests {
        manifest::read(&mut tree, path)?;
    }
    let facts = facts::facts_of(&tree, &arguments.name)?;
    let plan = Plan {
        label: arguments.id.clone(),
        size_mib: arguments.size_mib,
        journal_mib: arguments.journal_mib,
    };
    let disk = filesystem::write(&tree, &plan)?;
    let path = arguments.output.join(IMAGE_FILE);
    let file = File::create(&path).map_err(Error::file("create", &path))?;
    let mut output = BufWriter::with_capacity(1 << 20, file);
    qcow2::write(&disk, &mut output)?;
    let file = output.into_inner().map_err(|error| Error::Image(error.to_string()))?;
    file.sync_all().map_err(Error::file("write", &path))?;
    let about =
        About { id: &arguments.id, name: &arguments.name, virtual_size: disk.size(), facts };
    descriptor::write(&arguments.output, about)
}
