//! Whose log dir it is: `meta.properties`, as in Kafka.
//!
//! A broker deletes the logs of topics that its metadata doesn't know, as they were deleted while it was down. With
//! the metadata of another cluster, or new ones, that would be every log there is.

use std::io;
use std::path::Path;

use super::dir::LogDir;
use super::disk::{Access, Disk};
use super::error::OpenError;
use super::roll::UNFINISHED_SUFFIX;
use crate::ids::TopicId;

const FILE_NAME: &str = "meta.properties";
const VERSION: &str = "1";
/// More than a file of ours has.
const FILE_BYTES_MAX: u64 = 4096;

/// The broker that a log dir belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDirOwner {
    pub cluster_id: String,
    pub node_id: i32,
}

impl LogDir {
    /// Makes sure that the log dir is `owner`'s; one that is nobody's becomes its own, unless it holds logs of
    /// topics none of which `is_known`.
    pub fn claim(&self, owner: &LogDirOwner, is_known: impl Fn(TopicId) -> bool) -> Result<(), OpenError> {
        let (dir, disk) = (self.path(), &*self.shared().disk);
        let unusable = |source| OpenError::NotWritable { path: dir.to_owned(), source };
        let foreign = |found| {
            let (path, expected) = (dir.to_owned(), describe(owner));
            Err(OpenError::ForeignLogDir { path, found, expected })
        };
        match read(disk, dir).map_err(unusable)? {
            Some(text) if parse(&text).as_ref() == Some(owner) => Ok(()),
            Some(text) => {
                foreign(parse(&text).map_or_else(|| "an unreadable owner".to_owned(), |o| describe(&o)))
            }
            None => {
                let logs = self.logs();
                if !logs.is_empty() && !logs.iter().any(|log| is_known(log.topic_id_partition().topic_id)) {
                    return foreign("topics that the metadata does not know".to_owned());
                }
                write(disk, dir, owner).map_err(unusable)
            }
        }
    }
}

fn describe(owner: &LogDirOwner) -> String {
    format!("cluster {}, node {}", owner.cluster_id, owner.node_id)
}

fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Option<String>> {
    if !disk.list(dir)?.iter().any(|name| name == FILE_NAME) {
        return Ok(None);
    }
    let file = disk.open(&dir.join(FILE_NAME), Access::Read)?;
    let mut bytes = vec![0; usize::try_from(file.len()?.min(FILE_BYTES_MAX)).unwrap_or(0)];
    file.read(0, &mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn parse(text: &str) -> Option<LogDirOwner> {
    let value = |key: &str| {
        let mut pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.find_map(|(name, value)| (name.trim() == key).then(|| value.trim()))
    };
    let owner =
        LogDirOwner { cluster_id: value("cluster.id")?.to_owned(), node_id: value("node.id")?.parse().ok()? };
    (value("version")? == VERSION).then_some(owner)
}

fn write(disk: &dyn Disk, dir: &Path, owner: &LogDirOwner) -> io::Result<()> {
    let LogDirOwner { cluster_id, node_id } = owner;
    let text = format!("version={VERSION}\ncluster.id={cluster_id}\nnode.id={node_id}\n");
    let (path, unfinished) = (dir.join(FILE_NAME), dir.join(FILE_NAME.to_owned() + UNFINISHED_SUFFIX));
    let file = disk.open(&unfinished, Access::Create)?;
    file.set_len(text.len() as u64)?;
    file.write(0, text.as_bytes())?;
    file.sync_data()?;
    disk.rename(&unfinished, &path)?;
    disk.sync_dir(dir)
}
