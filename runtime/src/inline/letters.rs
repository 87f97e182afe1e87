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
use tokio::task::JoinHandle;

use super::answer::{InlineError, LettersFault};
use crate::batch::InputBatch;
use crate::runner::Writing;
use crate::stage::{
    Cause, Commit, Letter, Original, PARALLELISM_MAX, PortError, PortFactory, PortRequest, Rejection,
    StagePlugin, StagePort as _, StageShared,
};

/// What is written at once: no worker posts a second batch before the first one is answered.
const POSTS_MAX: usize = PARALLELISM_MAX as usize;
/// A port that is not closed in that time is given up.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Where the workers of a binding post.
pub(crate) struct LetterBox(mpsc::Sender<Post>);

/// The task that writes what is posted. It ends when nobody can post any more.
pub(crate) struct Postman(JoinHandle<()>);

/// The rejected records of a batch.
struct Post {
    input: InputBatch,
    rejections: Vec<Rejection>,
    /// The chain that it came through.
    plugins: Vec<StagePlugin>,
    reply: oneshot::Sender<Result<(), LettersFault>>,
}

impl LetterBox {
    pub(crate) fn open<F: PortFactory>(
        shared: Arc<StageShared>,
        factory: Arc<F>,
        handle: &tokio::runtime::Handle,
    ) -> (Self, Postman) {
        let (posts, receiver) = mpsc::channel(POSTS_MAX);
        let request = PortRequest { from: Vec::new(), ..PortRequest::of(&shared.spec, 0) };
        let writing = Writing::new(&shared.spec);
        let task = handle.spawn(Writer { shared, factory, request, port: None, writing }.work(receiver));
        (Self(posts), Postman(task))
    }

    /// Returns when the letters are written. Whoever drops this future takes back what is not being written yet.
    pub(super) async fn post(
        &self,
        input: &InputBatch,
        rejections: Vec<Rejection>,
        plugins: Vec<StagePlugin>,
    ) -> Result<(), InlineError> {
        let (reply, answer) = oneshot::channel();
        let post = Post { input: input.clone(), rejections, plugins, reply };
        self.0.send(post).await.map_err(|_| InlineError::Stopped)?;
        answer.await.map_err(|_| InlineError::Stopped)?.map_err(InlineError::Letters)
    }
}

impl Postman {
    /// Waits until what is under way is written, for a while.
    pub(super) async fn end(mut self) {
        if tokio::time::timeout(CLOSE_WAIT_MAX, &mut self.0).await.is_err() {
            self.0.abort();
        }
    }
}

struct Writer<F: PortFactory> {
    shared: Arc<StageShared>,
    factory: Arc<F>,
    request: PortRequest,
    /// None, until it is needed, and after an error.
    port: Option<F::Port>,
    writing: Writing,
}

impl<F: PortFactory> Writer<F> {
    async fn work(mut self, mut receiver: mpsc::Receiver<Post>) {
        let mut posts = Vec::new();
        while receiver.recv_many(&mut posts, POSTS_MAX).await > 0 {
            let mut posts = mem::take(&mut posts);
            // Whoever does not wait any more posts it again.
            posts.retain(|post| !post.reply.is_closed());
            self.deliver(posts).await;
        }
        self.close().await;
    }

    async fn deliver(&mut self, posts: Vec<Post>) {
        let described = self.describe().await;
        let mut taken = Vec::with_capacity(posts.len());
        for post in posts {
            match described.clone().and_then(|()| self.check(&post)) {
                Ok(()) => taken.push(post),
                Err(fault) => _ = post.reply.send(Err(fault)),
            }
        }
        if taken.is_empty() {
            return;
        }
        let written = self.write_all(&taken).await;
        if written.is_err() {
            self.writing.forget();
            self.close().await;
        }
        for Post { reply, .. } in taken {
            // It fails if nobody waits any more.
            let _ = reply.send(written.clone());
        }
    }

    async fn describe(&mut self) -> Result<(), LettersFault> {
        let now = self.shared.clock().monotonic();
        let Some(names) = self.writing.unknown(now).map(Vec::from) else { return Ok(()) };
        let infos = self.port().await?.describe_topics(&names).await?;
        self.writing.describe(infos, now).map_err(LettersFault::Later)
    }

    /// Whether the topic takes each of them: a part of a post would be there once more with each try.
    fn check(&self, post: &Post) -> Result<(), LettersFault> {
        post.rejections.iter().try_for_each(|rejection| self.letter(post, rejection).map(drop))
    }

    fn letter(&self, post: &Post, rejection: &Rejection) -> Result<Letter, LettersFault> {
        let original = Original::unstored(&post.input, rejection.origin);
        let plugin = rejection.plugin.and_then(|index| post.plugins.get(index));
        let cause = Cause::of(&self.shared.spec, &rejection.reason, plugin);
        self.writing.letter(&original, &cause, self.shared.clock().wall_ms()).map_err(LettersFault::Never)
    }

    async fn write_all(&mut self, posts: &[Post]) -> Result<(), LettersFault> {
        for post in posts {
            for rejection in &post.rejections {
                let letter = self.letter(post, rejection)?;
                self.writing.put(letter);
                if self.writing.is_full() {
                    self.write().await?;
                }
            }
        }
        self.write().await
    }

    async fn write(&mut self) -> Result<(), LettersFault> {
        let (outputs, _) = self.writing.batches();
        let commit = Commit { outputs, ..Commit::default() };
        self.port().await?.commit(commit).await?;
        self.writing.written();
        Ok(())
    }

    async fn port(&mut self) -> Result<&F::Port, LettersFault> {
        let port = match self.port.take() {
            Some(port) => port,
            None => self.factory.open(self.request.clone()).await?,
        };
        Ok(self.port.insert(port))
    }

    async fn close(&mut self) {
        if let Some(port) = self.port.take() {
            let _ = tokio::time::timeout(CLOSE_WAIT_MAX, port.close()).await;
        }
    }
}

impl From<PortError> for LettersFault {
    fn from(error: PortError) -> Self {
        match &error {
            PortError::Fatal(_) => Self::Never(error.to_string()),
            PortError::Fenced(_) | PortError::Unavailable(_) => Self::Later(error.to_string()),
        }
    }
}
