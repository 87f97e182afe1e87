//! Views as metadata: created, replaced and deleted by whoever defines them; clients only see them.
//!
//! A topic that has views can't be deleted. Deleting the views with it would leave their definitions behind, which
//! would show, under a name that somebody believed gone, whatever topic is created next under the source's.

use std::sync::Arc;

use super::topics::{check_free, stored_topic};
use super::{Broker, TopicError};
use crate::ids::{TopicId, TopicName};
use crate::metadata::{Command, MetadataImage, ViewImage, is_internal_topic};

impl Broker {
    /// Makes `name` a view of the topic `source`, whatever it was a view of before; says whether anything changed.
    /// A view of another source is another topic: offsets that were committed for it are forgotten.
    pub(crate) async fn put_view(&self, name: &str, source: &str) -> Result<bool, TopicError> {
        let image = self.metadata.image();
        let (before, command) = self.view_command(&image, name, source)?;
        let Some(command) = command else { return Ok(false) };
        self.metadata.propose(command).await?;
        if let Some(before) = before {
            self.groups.topics_deleted(vec![(before.name.clone(), before.id)]).await;
        }
        Ok(true)
    }

    /// Whether `put_view` would make the view; nothing happens.
    pub(crate) fn check_view(&self, name: &str, source: &str) -> Result<(), TopicError> {
        let image = self.metadata.image();
        let (_, command) = self.view_command(&image, name, source)?;
        command.map_or(Ok(()), |command| Ok(image.after(&command).map(drop)?))
    }

    pub(crate) async fn delete_view(&self, name: &str) -> Result<(), TopicError> {
        let image = self.metadata.image();
        let view = image.view(name).ok_or_else(|| TopicError::UnknownView(name.to_owned()))?;
        self.metadata.propose(Command::DeleteView { topic_id: view.id }).await?;
        self.groups.topics_deleted(vec![(view.name.clone(), view.id)]).await;
        Ok(())
    }

    /// The view of this name as it is, and the command that makes it one of `source` unless it is.
    fn view_command(
        &self,
        image: &MetadataImage,
        name: &str,
        source: &str,
    ) -> Result<(Option<Arc<ViewImage>>, Option<Command>), TopicError> {
        let name = TopicName::new(name)?;
        let source = stored_topic(image, source)?;
        for name in [&name, &source.name] {
            if is_internal_topic(name.as_str()) {
                return Err(TopicError::Internal(name.clone()));
            }
        }
        let before = image.view(name.as_str()).cloned();
        match &before {
            Some(before) if before.source_id == source.id => return Ok((None, None)),
            Some(_) => {}
            None => check_free(image, &name)?,
        }
        let topic_id = TopicId(self.clock.random_uuid());
        Ok((before, Some(Command::PutView { name, topic_id, source_id: source.id })))
    }
}
