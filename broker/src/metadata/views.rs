//! Views: topics that store nothing. A view has a name and an id of its own; its partitions, their leaders and epochs
//! are those of its source.
//!
//! What a view makes of its source's records is not said here: whoever defines it binds a plugin to its name.
//!
//! Invariants: a name and an id are of a topic or of a view, never of both; a view's source is a topic that exists.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::apply::Applied;
use super::command::{Rejection, Response, VIEWS_MAX};
use super::delta::{MetadataDelta, RowKey};
use super::image::{MetadataImage, PartitionImage, TopicImage, is_internal_topic};
use crate::ids::{PartitionIndex, TopicId, TopicName};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewImage {
    pub id: TopicId,
    pub name: TopicName,
    /// The topic whose records it shows.
    pub source_id: TopicId,
}

/// The views by id and by name. There are few: a change copies both maps.
#[derive(Debug, Clone, Default)]
pub(super) struct Views {
    by_id: BTreeMap<TopicId, Arc<ViewImage>>,
    ids: BTreeMap<TopicName, TopicId>,
}

impl Views {
    pub(super) fn insert(&mut self, view: ViewImage) {
        self.ids.insert(view.name.clone(), view.id);
        self.by_id.insert(view.id, Arc::new(view));
    }

    fn remove(&mut self, id: TopicId) {
        if let Some(view) = self.by_id.remove(&id) {
            self.ids.remove(&view.name);
        }
    }
}

/// What clients see as a topic: one that stores records, or a view of one.
#[derive(Debug, Clone, Copy)]
pub struct ListedTopic<'a> {
    stored: &'a Arc<TopicImage>,
    view: Option<&'a Arc<ViewImage>>,
}

impl<'a> ListedTopic<'a> {
    pub fn id(&self) -> TopicId {
        self.view.map_or(self.stored.id, |view| view.id)
    }

    pub fn name(&self) -> &'a TopicName {
        self.view.map_or(&self.stored.name, |view| &view.name)
    }

    /// The topic itself, or the source of the view.
    pub fn stored(&self) -> &'a Arc<TopicImage> {
        self.stored
    }

    pub fn view(&self) -> Option<&'a Arc<ViewImage>> {
        self.view
    }

    pub fn is_internal(&self) -> bool {
        is_internal_topic(self.name().as_str())
    }

    pub fn partition(&self, index: PartitionIndex) -> Option<&'a Arc<PartitionImage>> {
        self.stored.partition(index)
    }

    pub fn partition_count(&self) -> i32 {
        self.stored.partition_count()
    }

    pub fn partitions(&self) -> impl Iterator<Item = (PartitionIndex, &'a Arc<PartitionImage>)> + use<'a> {
        self.stored.partitions()
    }
}

impl MetadataImage {
    pub fn view(&self, name: &str) -> Option<&Arc<ViewImage>> {
        self.view_by_id(*self.views.ids.get(name)?)
    }

    pub fn view_by_id(&self, id: TopicId) -> Option<&Arc<ViewImage>> {
        self.views.by_id.get(&id)
    }

    /// Every view, by id.
    pub fn views(&self) -> impl Iterator<Item = &Arc<ViewImage>> {
        self.views.by_id.values()
    }

    /// The views of a topic, by id.
    pub fn views_of(&self, source_id: TopicId) -> impl Iterator<Item = &Arc<ViewImage>> {
        self.views().filter(move |view| view.source_id == source_id)
    }

    /// The topic or the view of this name.
    pub fn listed(&self, name: &str) -> Option<ListedTopic<'_>> {
        match self.view(name) {
            Some(view) => self.listed_view(view),
            None => self.topic(name).map(|stored| ListedTopic { stored, view: None }),
        }
    }

    pub fn listed_by_id(&self, id: TopicId) -> Option<ListedTopic<'_>> {
        match self.view_by_id(id) {
            Some(view) => self.listed_view(view),
            None => self.topic_by_id(id).map(|stored| ListedTopic { stored, view: None }),
        }
    }

    /// Every topic and view, in no particular order.
    pub fn all_listed(&self) -> impl Iterator<Item = ListedTopic<'_>> {
        let topics = self.topics().map(|stored| ListedTopic { stored, view: None });
        topics.chain(self.views().filter_map(|view| self.listed_view(view)))
    }

    /// Partitions of all topics and views.
    pub fn listed_partition_count(&self) -> usize {
        let of_views = self.views().filter_map(|view| self.topic_by_id(view.source_id));
        self.partition_count() + of_views.map(|source| source.partitions.len()).sum::<usize>()
    }

    fn listed_view<'a>(&'a self, view: &'a Arc<ViewImage>) -> Option<ListedTopic<'a>> {
        let stored = self.topic_by_id(view.source_id)?;
        Some(ListedTopic { stored, view: Some(view) })
    }

    pub(super) fn put_view(
        &mut self,
        name: &TopicName,
        id: TopicId,
        source_id: TopicId,
        delta: &mut MetadataDelta,
    ) -> Applied {
        let source = self.existing(source_id)?;
        if self.topic(name.as_str()).is_some() || is_internal_topic(name.as_str()) {
            return Err(Rejection::TopicExists(name.clone()));
        }
        let replaced = self.view(name.as_str()).cloned();
        if replaced.as_ref().is_some_and(|view| view.source_id == source_id) {
            return Ok(Response::Done);
        }
        if self.listed_by_id(id).is_some() {
            return Err(Rejection::TopicIdExists(id));
        }
        if replaced.is_none() && self.views.by_id.len() >= VIEWS_MAX {
            return Err(Rejection::TooManyViews);
        }
        self.check_room(source.partitions.len())?;
        let views = Arc::make_mut(&mut self.views);
        if let Some(replaced) = replaced {
            views.remove(replaced.id);
            delta.rows.insert(RowKey::View(replaced.id));
        }
        views.insert(ViewImage { id, name: name.clone(), source_id });
        delta.rows.insert(RowKey::View(id));
        Ok(Response::Done)
    }

    pub(super) fn delete_view(&mut self, id: TopicId, delta: &mut MetadataDelta) -> Applied {
        if self.view_by_id(id).is_none() {
            return Err(Rejection::UnknownView(id));
        }
        Arc::make_mut(&mut self.views).remove(id);
        delta.rows.insert(RowKey::View(id));
        Ok(Response::Done)
    }
}
