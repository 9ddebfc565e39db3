//! The whole way from arguments to the two output files.

use std::fs::File;
use std::io::BufWriter;

use crate::arguments::Arguments;
use crate::descriptor::{About, IMAGE_FILE};
use crate::error::{Error, Result};
use crate::facts::Fact;
use crate::filesystem::Plan;
use crate::tree::Tree;
use crate::{archive, descriptor, facts, filesystem, manifest, oci_source, qcow2};

/// A tree and all that is to be known for making an image of it.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) tree: Tree,
    pub(crate) name: String,
    pub(crate) plan: Plan,
    /// What is known beside what the files say.
    pub(crate) facts: Vec<Fact>,
}

/// Build the image; on an error the output folder may hold unfinished files, and its owner is
/// expected to throw it away.
pub(crate) fn build(arguments: &Arguments) -> Result<()> {
    let mut source = match &arguments.oci.reference {
        Some(reference) => oci_source::read(reference, arguments)?,
        None => of_archives(arguments)?,
    };
    for path in &arguments.manifests {
        manifest::read(&mut source.tree, path)?;
    }
    let mut facts = facts::facts_of(&source.tree, &source.name)?;
    facts.append(&mut source.facts);
    let disk = filesystem::write(&source.tree, &source.plan)?;
    let path = arguments.output.join(IMAGE_FILE);
    let file = File::create(&path).map_err(Error::file("create", &path))?;
    let mut output = BufWriter::with_capacity(1 << 20, file);
    qcow2::write(&disk, &mut output)?;
    let file = output.into_inner().map_err(|error| Error::Image(error.to_string()))?;
    file.sync_all().map_err(Error::file("write", &path))?;
    let about =
        About { id: &source.plan.label, name: &source.name, virtual_size: disk.size(), facts };
    descriptor::write(&arguments.output, about)
}

fn of_archives(arguments: &Arguments) -> Result<Source> {
    let missing = |what| move || Error::Missing(what);
    let mut tree = Tree::new(arguments.epoch.ok_or_else(missing("--epoch"))?);
    for path in &arguments.archives {
        archive::read(&mut tree, path)?;
    }
    let plan = Plan {
        label: arguments.id.clone().ok_or_else(missing("--id"))?,
        size_mib: arguments.size_mib.ok_or_else(missing("--size-mib"))?,
        journal_mib: arguments.journal_mib.ok_or_else(missing("--journal-mib"))?,
    };
    let name = arguments.name.clone().ok_or_else(missing("--name"))?;
    Ok(Source { tree, name, plan, facts: Vec::new() })
}
