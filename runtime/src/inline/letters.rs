//! Dead letters of an ingest. They are written before the producer hears what became of its batch: so none is missing, and
//! one is there twice where the producer sends again what it got no answer about.
//!
//! ```text
//! worker threads ── posts (bounded) ──> a task of the node: describes the topic, writes, answers
//! ```

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::answer::InlineError;
use crate::batch::InputBatch;
use crate::runner::Writing;
use crate::stage::{
    Cause, Commit, Original, PARALLELISM_MAX, PortFactory, PortRequest, Rejection, StagePlugin,
    StagePort as _, StageShared,
};

/// What is written at once: no worker posts a second batch before the first one is answered.
const POSTS_MAX: usize = PARALLELISM_MAX as usize;

/// Where the workers of a binding post.
pub(crate) struct LetterBox {
    posts: mpsc::Sender<Post>,
    wait_max: Duration,
}

/// The rejected records of a batch.
struct Post {
    input: InputBatch,
    /// With the plugins that rejected them.
    rejections: Vec<(Rejection, Option<StagePlugin>)>,
    reply: oneshot::Sender<Result<(), String>>,
}

impl LetterBox {
    /// What is posted is written by a task of `handle`, which ends when nobody can post any more.
    pub(crate) fn open<F: PortFactory>(
        shared: Arc<StageShared>,
        factory: Arc<F>,
        wait_max: Duration,
        handle: &tokio::runtime::Handle,
    ) -> Self {
        let (posts, receiver) = mpsc::channel(POSTS_MAX);
        let request = PortRequest { from: Vec::new(), ..PortRequest::of(&shared.spec, 0) };
        let writing = Writing::new(&shared.spec);
        handle.spawn(Postman { shared, factory, request, port: None, writing }.work(receiver));
        Self { posts, wait_max }
    }

    /// Returns when the letters are written.
    pub(super) async fn post(
        &self,
        input: &InputBatch,
        rejections: Vec<(Rejection, Option<StagePlugin>)>,
    ) -> Result<(), InlineError> {
        let (reply, answer) = oneshot::channel();
        let posted = async {
            self.posts.send(Post { input: input.clone(), rejections, reply }).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(self.wait_max, posted).await {
            Ok(Some(written)) => written.map_err(InlineError::Letters),
            Ok(None) => Err(InlineError::Stopped),
            Err(_) => Err(InlineError::Letters("they took too long".to_owned())),
        }
    }
}

/// Writes what is posted.
struct Postman<F: PortFactory> {
    shared: Arc<StageShared>,
    factory: Arc<F>,
    request: PortRequest,
    /// None, until it is needed, and after an error.
    port: Option<F::Port>,
    writing: Writing,
}

impl<F: PortFactory> Postman<F> {
    async fn work(mut self, mut receiver: mpsc::Receiver<Post>) {
        let mut posts = Vec::new();
        while receiver.recv_many(&mut posts, POSTS_MAX).await > 0 {
            // Whoever does not wait any more posts it again.
            posts.retain(|post| !post.reply.is_closed());
            self.deliver(mem::take(&mut posts)).await;
        }
        if let Some(port) = self.port.take() {
            port.close().await;
        }
    }

    async fn deliver(&mut self, posts: Vec<Post>) {
        let described = self.describe().await;
        let mut replies = Vec::with_capacity(posts.len());
        for post in posts {
            match described.clone().and_then(|()| self.put(&post)) {
                Ok(()) => replies.push(post.reply),
                Err(reason) => _ = post.reply.send(Err(reason)),
            }
        }
        if replies.is_empty() {
            return self.writing.forget();
        }
        let written = self.write().await;
        if written.is_err() {
            self.writing.forget();
            if let Some(port) = self.port.take() {
                port.close().await;
            }
        }
        for reply in replies {
            // It fails if nobody waits any more.
            let _ = reply.send(written.clone());
        }
    }

    async fn describe(&mut self) -> Result<(), String> {
        let now = self.shared.clock().monotonic();
        let Some(names) = self.writing.unknown(now).map(Vec::from) else { return Ok(()) };
        let infos = self.port().await?.describe_topics(&names).await;
        self.writing.describe(infos.map_err(|error| error.to_string())?, now)
    }

    fn put(&mut self, post: &Post) -> Result<(), String> {
        let now_ms = self.shared.clock().wall_ms();
        for (rejection, plugin) in &post.rejections {
            let original = Original::unstored(&post.input, rejection.origin);
            let cause = Cause::of(&self.shared.spec, &rejection.reason, plugin.as_ref());
            self.writing.put_letter(&original, &cause, now_ms)?;
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), String> {
        let (outputs, _) = self.writing.batches();
        let commit = Commit { outputs, ..Commit::default() };
        self.port().await?.commit(commit).await.map_err(|error| error.to_string())?;
        self.writing.written();
        Ok(())
    }

    async fn port(&mut self) -> Result<&F::Port, String> {
        let port = match self.port.take() {
            Some(port) => port,
            None => self.factory.open(self.request.clone()).await.map_err(|error| error.to_string())?,
        };
        Ok(self.port.insert(port))
    }
}
