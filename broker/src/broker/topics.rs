//! Topics: what the admin APIs and auto-creation ask for, checked and proposed to the metadata.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Broker;
use crate::config::{ConfigError, TopicConfigs, topic_config, validate_topic_config};
use crate::ids::{BrokerId, TopicId, TopicName, TopicNameError};
use crate::metadata::{
    Command, ConfigResource, MetadataImage, PlacementError, ProposeError, Rejection, TopicImage,
};

/// Where groups keep their offsets.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// What CreateTopics and CreatePartitions take for "as the broker's configuration says" (KIP-464).
pub(crate) const DEFAULT: i32 = -1;

/// A topic that somebody wants.
#[derive(Debug, Clone)]
pub(crate) struct NewTopic {
    /// [`DEFAULT`], or at least 1; not looked at with an assignment.
    pub(crate) partitions: i32,
    pub(crate) replication_factor: i16,
    /// The replicas of each partition, if whoever asks places them.
    pub(crate) assignment: Option<Vec<Vec<BrokerId>>>,
    pub(crate) configs: TopicConfigs,
    pub(crate) validate_only: bool,
}

impl Default for NewTopic {
    fn default() -> Self {
        Self {
            partitions: DEFAULT,
            replication_factor: DEFAULT as i16,
            assignment: None,
            configs: TopicConfigs::new(),
            validate_only: false,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    #[error(transparent)]
    Name(#[from] TopicNameError),
    #[error("topic {0} already exists")]
    Exists(TopicName),
    #[error(
        "topic name {0} differs from that of topic {1} only in \".\" and \"_\", which metrics can't tell apart"
    )]
    Collides(TopicName, TopicName),
    #[error("topic {0} does not exist")]
    Unknown(String),
    #[error("no topic has the id {0}")]
    UnknownId(TopicId),
    #[error("topic {0} is internal")]
    Internal(TopicName),
    #[error(
        "topic {0} is a view of another topic: it stores nothing, and is changed and deleted by the pipeline that defines it"
    )]
    IsView(TopicName),
    #[error("topic {topic} is the source of view {view}: delete the pipeline that defines the view first")]
    SourceOfView { topic: TopicName, view: TopicName },
    #[error("no view is called {0}")]
    UnknownView(String),
    #[error("topic has {has} partitions already; {wanted} is not more")]
    NotMorePartitions { has: i32, wanted: i32 },
    #[error(transparent)]
    Placement(#[from] PlacementError),
    #[error("invalid replica assignment: {0}")]
    Assignment(&'static str),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("topic deletion is disabled: delete.topic.enable is false")]
    DeletionDisabled,
    #[error(transparent)]
    Rejected(Rejection),
    #[error("metadata can't be changed")]
    Propose(#[source] ProposeError),
}

impl From<ProposeError> for TopicError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Rejected(rejection) => rejection.into(),
            ProposeError::InvalidConfig(error) => Self::Config(error),
            ProposeError::Placement(error) => Self::Placement(error),
            error => Self::Propose(error),
        }
    }
}

impl From<Rejection> for TopicError {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::TopicExists(name) => Self::Exists(name),
            Rejection::SourceOfView { topic, view } => Self::SourceOfView { topic, view },
            rejection => Self::Rejected(rejection),
        }
    }
}

impl Broker {
    /// Creates the topic; when this returns it can be produced to. With `validate_only` nothing happens, and
    /// the topic that would have come to be is returned all the same.
    pub(crate) async fn create_topic(
        &self,
        name: &str,
        new: NewTopic,
    ) -> Result<Arc<TopicImage>, TopicError> {
        if new.validate_only {
            return self.check_new_topic(name, new);
        }
        let (command, topic_id) = self.new_topic_command(&self.metadata.image(), name, new)?;
        self.metadata.propose(command).await?;
        self.reconcile();
        self.metadata.image().topic_by_id(topic_id).cloned().ok_or(TopicError::UnknownId(topic_id))
    }

    /// The topic that `create_topic` would create; nothing happens.
    pub(crate) fn check_new_topic(&self, name: &str, new: NewTopic) -> Result<Arc<TopicImage>, TopicError> {
        let image = self.metadata.image();
        let (command, topic_id) = self.new_topic_command(&image, name, new)?;
        preview(&image, &command, topic_id)
    }

    fn new_topic_command(
        &self,
        image: &MetadataImage,
        name: &str,
        new: NewTopic,
    ) -> Result<(Command, TopicId), TopicError> {
        let name = TopicName::new(name)?;
        check_free(image, &name)?;
        let command = self.create_topic_command(image, name, new)?;
        let Command::CreateTopic { topic_id, .. } = command else {
            unreachable!("create_topic_command makes nothing else");
        };
        Ok((command, topic_id))
    }

    /// What a client's interest in an unknown topic makes of it. Somebody else may have been quicker.
    pub(crate) async fn auto_create_topic(&self, name: &TopicName) -> Result<(), TopicError> {
        let new = match name.as_str() {
            OFFSETS_TOPIC => self.offsets_topic(),
            _ => NewTopic::default(),
        };
        match self.create_topic(name.as_str(), new).await {
            Err(TopicError::Exists(_)) => self.reconcile(),
            created => drop(created?),
        }
        Ok(())
    }

    /// `__consumer_offsets`, as the broker's configuration wants it.
    pub(crate) fn offsets_topic(&self) -> NewTopic {
        let segment_bytes = self.config.offsets_topic_segment_bytes.to_string();
        let set = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        NewTopic {
            partitions: self.config.offsets_topic_num_partitions,
            replication_factor: self.config.offsets_topic_replication_factor,
            configs: [
                ("cleanup.policy", "compact"),
                ("compression.type", "producer"),
                ("segment.bytes", segment_bytes.as_str()),
            ]
            .map(set)
            .into(),
            ..NewTopic::default()
        }
    }

    /// Deletes the topic and its records.
    pub(crate) async fn delete_topic(&self, topic: &TopicImage) -> Result<(), TopicError> {
        if !self.config.delete_topic_enable {
            return Err(TopicError::DeletionDisabled);
        }
        self.metadata.propose(Command::DeleteTopic { topic_id: topic.id }).await?;
        self.reconcile();
        self.groups.topics_deleted(vec![(topic.name.clone(), topic.id)]).await;
        Ok(())
    }

    /// Grows the topic to `count` partitions.
    pub(crate) async fn create_partitions(
        &self,
        name: &str,
        count: i32,
        assignment: Option<Vec<Vec<BrokerId>>>,
        validate_only: bool,
    ) -> Result<(), TopicError> {
        let image = self.metadata.image();
        let topic = stored_topic(&image, name)?;
        if topic.is_internal() {
            return Err(TopicError::Internal(topic.name.clone()));
        }
        let has = topic.partition_count();
        if count <= has {
            return Err(TopicError::NotMorePartitions { has, wanted: count });
        }
        let command = match assignment {
            Some(assignment) if assignment.len() != (count - has) as usize => {
                return Err(TopicError::Assignment("its length is not that of the added partitions"));
            }
            Some(assignment) => {
                let replicas = checked(&image, assignment)?;
                Command::CreatePartitions { topic_id: topic.id, expected_count: has, replicas }
            }
            None => self.metadata.create_partitions_command(topic.id, count)?,
        };
        if validate_only {
            preview(&image, &command, topic.id)?;
            return Ok(());
        }
        self.metadata.propose(command).await?;
        self.reconcile();
        Ok(())
    }

    /// Changes a topic's own configuration; `None` goes back to the default.
    pub(crate) async fn alter_topic_configs(
        &self,
        name: &str,
        changes: BTreeMap<String, Option<String>>,
        validate_only: bool,
    ) -> Result<(), TopicError> {
        let image = self.metadata.image();
        let topic = stored_topic(&image, name)?;
        for (key, value) in &changes {
            let default = || topic_config(key).map(|def| def.default.unwrap_or_default().to_owned());
            match value {
                Some(value) => validate_topic_config(key, value)?,
                None if topic.configs.contains_key(key) || default().is_some() => {}
                None => validate_topic_config(key, "")?,
            }
        }
        if validate_only {
            return Ok(());
        }
        let resource = ConfigResource::Topic(topic.id);
        self.metadata.propose(Command::ConfigChange { resource, changes }).await?;
        self.reconcile();
        Ok(())
    }

    /// Brings the partitions here in line with the metadata.
    pub(crate) fn reconcile(&self) {
        self.topics.reconcile(self.metadata.image());
        self.lead_groups();
    }

    /// Coordinates the groups of the partitions of `__consumer_offsets` that are led here.
    pub(crate) fn lead_groups(&self) {
        let topic = self.topics.by_name(OFFSETS_TOPIC);
        let image = topic.as_ref().map(|topic| topic.image());
        self.groups.follow_topic(image.map(|image| (image.id, image.partition_count())));
        if let Some(topic) = topic {
            for partition in topic.partitions() {
                self.groups.load(partition.id().partition, partition.leader_epoch());
            }
        }
    }

    fn create_topic_command(
        &self,
        image: &MetadataImage,
        name: TopicName,
        new: NewTopic,
    ) -> Result<Command, TopicError> {
        if let Some(assignment) = new.assignment {
            let replicas = checked(image, assignment)?;
            for (key, value) in &new.configs {
                validate_topic_config(key, value)?;
            }
            let topic_id = TopicId(self.clock.random_uuid());
            return Ok(Command::CreateTopic { name, topic_id, replicas, configs: new.configs });
        }
        let partitions = match new.partitions {
            DEFAULT => self.config.num_partitions,
            partitions => partitions,
        };
        let factor = match i32::from(new.replication_factor) {
            DEFAULT => self.config.default_replication_factor,
            _ => new.replication_factor,
        };
        Ok(self.metadata.create_topic_command(name, partitions, factor, new.configs)?)
    }
}

/// What the command would do to the image.
fn preview(
    image: &MetadataImage,
    command: &Command,
    topic_id: TopicId,
) -> Result<Arc<TopicImage>, TopicError> {
    let (after, _) = image.after(command)?;
    after.topic_by_id(topic_id).cloned().ok_or(TopicError::UnknownId(topic_id))
}

fn checked(image: &MetadataImage, assignment: Vec<Vec<BrokerId>>) -> Result<Vec<Vec<BrokerId>>, TopicError> {
    let factor = assignment.first().map_or(0, Vec::len);
    for replicas in &assignment {
        if replicas.is_empty() || replicas.len() != factor {
            return Err(TopicError::Assignment(
                "partitions differ in their number of replicas, or have none",
            ));
        }
        if replicas.iter().any(|id| image.broker(*id).is_none()) {
            return Err(TopicError::Assignment("a replica is on a broker that doesn't exist"));
        }
        if (1..replicas.len()).any(|at| replicas[..at].contains(&replicas[at])) {
            return Err(TopicError::Assignment("a partition has two replicas on one broker"));
        }
    }
    Ok(assignment)
}

/// A topic that stores records, of this name.
pub(crate) fn stored_topic<'a>(
    image: &'a MetadataImage,
    name: &str,
) -> Result<&'a Arc<TopicImage>, TopicError> {
    let unknown = || TopicError::Unknown(name.to_owned());
    let topic = image.listed(name).ok_or_else(unknown)?;
    match topic.view() {
        Some(view) => Err(TopicError::IsView(view.name.clone())),
        None => Ok(topic.stored()),
    }
}

/// Whether a topic or a view may take the name.
pub(super) fn check_free(image: &MetadataImage, name: &TopicName) -> Result<(), TopicError> {
    if image.listed(name.as_str()).is_some() {
        return Err(TopicError::Exists(name.clone()));
    }
    // Kafka refuses names that its metrics can't tell apart.
    if !name.as_str().contains(['.', '_']) {
        return Ok(());
    }
    let folded = |name: &TopicName| name.as_str().replace('.', "_");
    let wanted = folded(name);
    match image.all_listed().map(|topic| topic.name()).find(|other| folded(other) == wanted) {
        Some(other) => Err(TopicError::Collides(name.clone(), other.clone())),
        None => Ok(()),
    }
}
