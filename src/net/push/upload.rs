//! One blob into one repository, whatever happens to the connections on the way.
//!
//! First the question whether it is there, then a mount, then one request with the whole body. After a loss the
//! registry is asked how much it has, and only the rest is sent; a registry that takes no large request gets chunks.
//! The same where an earlier process was killed; what it sent may be wrong in any way, and then the blob goes once more.
//! Whatever a registry answers, it comes to an end: an attempt after which it has no more bytes than before is a failure.

use super::kept::Kept;
use super::manifests::{refusal, stored_as};
use super::plan::Blob;
use super::session::{Opened, Session};
use crate::error::{ErrorKind, ResultExt};
use crate::net::failure::{NetError, NetResult, Trouble, printable};
use crate::net::http::{Answer, Payload};
use crate::net::registry::{Registry, whom};
use crate::net::retry::TRIES;
use crate::net::wish::{Access, Path, Wish};
use crate::oci::layout::Layout;
use crate::oci::{Digest, Reference};
use crate::progress::Emitter;
use crate::timings::Phase;
use std::fs::File;
use std::time::Duration;

/// Refused tokens, one after the other: the second one was new.
const MAX_UNAUTHORIZED: u32 = 2;
/// Sizes of chunks where a whole blob is too much.
const CHUNK: u64 = 16 << 20;

/// What became of an attempt.
enum Attempt {
    Done,
    /// Something arrived, or a way was found how to go on.
    Further,
    /// Nothing to show for it; wait, then go on.
    Failed(NetError, Duration),
}

impl Registry {
    /// Fails where nothing may be pushed to the repository of `target`: by opening an upload and giving it up.
    pub fn check_push(&self, target: &Reference) -> NetResult<()> {
        self.may_push()?;
        self.is_online(std::slice::from_ref(target))?;
        let blob = Blob { digest: Digest::of(b""), size: 0 };
        let checked = match Session::open(self, target, &blob, None) {
            Ok(Opened::Session(session)) => {
                session.cancel(self, target);
                Ok(())
            }
            Ok(Opened::Mounted) => Ok(()),
            Ok(Opened::Refused(answer)) => Err(refusal(*answer, target)),
            Err(error) => Err(error),
        };
        checked.map_err(|error| error.wrap(format!("cannot push `{target}`")))
    }

    /// Makes sure that the repository has the blob; true when we brought it there.
    pub(super) fn ensure(
        &self,
        source: &Layout,
        blob: &Blob,
        target: &Reference,
        emitter: &Emitter,
    ) -> NetResult<bool> {
        let _turn = self.homes().turn(target, &blob.digest);
        if let Some(brought) = self.homes().has(target, &blob.digest) {
            return Ok(brought);
        }
        let doubted = self.homes().doubts(target, &blob.digest);
        let there = !doubted && self.is_there(blob, target)?;
        let kept = Kept::of(self.uploads(), target, blob);
        if there {
            if let Some(mut kept) = kept {
                kept.forget();
            }
        } else {
            let mut span = emitter.span(Phase::Upload);
            span.about(&blob.digest);
            self.send(source, blob, target, kept)
                // It may be ours that is damaged.
                .inspect_err(|_| source.doubt(&blob.digest))
                .map_err(|error| error.wrap(format!("cannot upload blob {}", blob.digest)))?;
            span.gave(blob.size);
        }
        self.homes().add(target, &blob.digest, !there);
        Ok(!there)
    }

    fn send(
        &self,
        source: &Layout,
        blob: &Blob,
        target: &Reference,
        kept: Option<Kept>,
    ) -> NetResult<()> {
        let path = source.blob_path(&blob.digest);
        let file = File::open(&path)
            .or_error(ErrorKind::Environment, || format!("cannot read {}", path.display()))
            .map_err(|error| NetError::new(Trouble::Local, error))?;
        let upload = Upload {
            registry: self,
            blob,
            target,
            file,
            kept,
            session: None,
            chunk: blob.size,
            arrived: 0,
            unauthorized: 0,
        };
        upload.run()
    }

    /// Whether the repository has it. A registry that cannot say so gets the blob.
    pub(super) fn is_there(&self, blob: &Blob, target: &Reference) -> NetResult<bool> {
        let answer = self.ask_origin(&Wish {
            reference: target,
            method: "HEAD",
            path: Path::Below(&format!("blobs/{}", blob.digest)),
            accept: &[],
            headers: &[],
            from: 0,
            payload: Payload::None,
            access: Access::Write { from: None },
        })?;
        // A portal in the way says yes to everything; a gateway may leave the length out, or say 0.
        let length = answer.header("content-length").and_then(|text| text.trim().parse().ok());
        match answer.status {
            200 => Ok(length.is_none_or(|length: u64| [0, blob.size].contains(&length))),
            401 | 403 => Err(refusal(answer, target)),
            _ => Ok(false),
        }
    }
}

struct Upload<'a> {
    registry: &'a Registry,
    blob: &'a Blob,
    target: &'a Reference,
    file: File,
    /// Where the session is remembered.
    kept: Option<Kept>,
    session: Option<Session>,
    /// Bytes of one request.
    chunk: u64,
    /// The most that a session had.
    arrived: u64,
    unauthorized: u32,
}

impl Upload<'_> {
    fn run(mut self) -> NetResult<()> {
        self.resume()?;
        self.finish()?;
        self.forget_session();
        Ok(())
    }

    /// Goes on where an earlier process stopped, in chunks: it may be stopped again.
    fn resume(&mut self) -> NetResult<()> {
        let Some(kept) = &mut self.kept else { return Ok(()) };
        self.session = kept.session(self.registry, self.target, self.blob)?;
        if self.session.is_some() {
            self.chunk = self.chunk.min(CHUNK);
        }
        Ok(())
    }

    fn is_resumed(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.resumed)
    }

    /// What an earlier process left is of no use: all of the blob, in a session of our own. So it happens once.
    fn start_over(&mut self) -> Attempt {
        self.session = None;
        self.forget_session();
        self.chunk = self.blob.size;
        self.arrived = 0;
        Attempt::Further
    }

    fn keep_session(&mut self) {
        if let (Some(kept), Some(session)) = (&mut self.kept, &self.session) {
            kept.save(session);
        }
    }

    fn forget_session(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.forget();
        }
    }

    fn finish(&mut self) -> NetResult<()> {
        let mut retry = self.registry.retry(TRIES);
        loop {
            match self.attempt()? {
                Attempt::Done => return Ok(()),
                Attempt::Further => {}
                Attempt::Failed(error, at_least) => {
                    let stopped = (self.registry.stopped())();
                    let Some(wait) = retry.after_failure(at_least).filter(|_| !stopped) else {
                        return Err(error);
                    };
                    let why = error.error().causes().join(": ");
                    self.registry.wait(&whom(self.target), &printable(&why, 200), wait);
                    if self.found()? {
                        return Ok(());
                    }
                }
            }
            let offset = self.session.as_ref().map_or(0, |session| session.offset);
            if offset > self.arrived {
                self.arrived = offset;
                self.unauthorized = 0;
                retry.progress();
            }
        }
    }

    /// After a failure: the answer of a request that did everything may have been lost. Else the session may know
    /// how much arrived, or it is gone.
    fn found(&mut self) -> NetResult<bool> {
        let Some(session) = &mut self.session else { return Ok(false) };
        if session.refresh(self.registry, self.target, self.blob)? {
            self.keep_session();
            return Ok(false);
        }
        self.session = None;
        self.forget_session();
        self.registry.is_there(self.blob, self.target)
    }

    fn attempt(&mut self) -> NetResult<Attempt> {
        let Some(session) = &mut self.session else { return self.open() };
        let left = self.blob.size.saturating_sub(session.offset);
        let answer = if session.offset == 0 && self.chunk >= self.blob.size {
            session.put_whole(self.registry, self.target, self.blob, &self.file)
        } else if left > 0 {
            let size = self.chunk.max(session.min_chunk).min(left);
            let before = session.offset;
            match session.patch(self.registry, self.target, &self.file, size) {
                Ok(answer) if !matches!(answer.status, 200..=204) => Ok(answer),
                Ok(_) if session.offset > before => {
                    self.keep_session();
                    return Ok(Attempt::Further);
                }
                Ok(_) if session.resumed => return Ok(self.start_over()),
                Ok(_) => {
                    let message = format!("{} keeps nothing of a chunk", whom(self.target));
                    return Ok(Attempt::Failed(NetError::broken(message), Duration::ZERO));
                }
                Err(error) => Err(error),
            }
        } else {
            session.close(self.registry, self.target, self.blob)
        };
        match answer {
            Ok(answer) if matches!(answer.status, 200..=204) => {
                let stored = stored_as(&answer, &self.blob.digest, "blob", self.target);
                // The address came out of a file: it is the registry itself whose word counts.
                if self.is_resumed()
                    && !(stored.is_ok() && self.registry.is_there(self.blob, self.target)?)
                {
                    return Ok(self.start_over());
                }
                stored.map(|()| Attempt::Done)
            }
            Ok(answer) => self.refused(answer),
            Err(error) if error.trouble() == Trouble::Unreachable => {
                Ok(Attempt::Failed(error, Duration::ZERO))
            }
            Err(error) if error.trouble() == Trouble::Broken && self.is_resumed() => {
                Ok(self.start_over())
            }
            Err(error) => Err(error),
        }
    }

    fn open(&mut self) -> NetResult<Attempt> {
        let from = self.registry.homes().elsewhere(self.target, &self.blob.digest);
        let there =
            from.as_deref().map(|from| self.registry.beside(self.target, from)).transpose()?;
        let there = there.flatten();
        let opened = match Session::open(self.registry, self.target, self.blob, there.as_deref()) {
            // Reading there may not be allowed, or the blob is not there any more.
            Ok(Opened::Refused(_)) if from.is_some() => {
                self.forget(from.as_deref());
                return Ok(Attempt::Further);
            }
            other => other?,
        };
        match opened {
            Opened::Mounted => Ok(Attempt::Done),
            Opened::Session(session) => {
                self.session = Some(session);
                self.keep_session();
                Ok(Attempt::Further)
            }
            Opened::Refused(answer) => self.refused(*answer),
        }
    }

    fn forget(&self, repository: Option<&str>) {
        let repository = repository.unwrap_or_default().to_owned();
        let other = Reference { repository, ..self.target.clone() };
        self.registry.homes().forget(&other, &self.blob.digest);
    }

    /// What an answer that is no success means for the upload.
    fn refused(&mut self, answer: Answer) -> NetResult<Attempt> {
        let wait = answer.retry_after();
        // Registries have no common word for pieces that do not fit together.
        let passes = matches!(answer.status, 401 | 403 | 408 | 429 | 502..=504);
        if !passes && self.is_resumed() {
            return Ok(self.start_over());
        }
        match answer.status {
            413 if self.chunk > CHUNK => {
                self.chunk = CHUNK;
                self.session = None;
                Ok(Attempt::Further)
            }
            // The token ran out, and there is a new one now.
            401 => {
                self.unauthorized += 1;
                let refusal = refusal(answer, self.target);
                if self.unauthorized >= MAX_UNAUTHORIZED {
                    return Err(refusal);
                }
                Ok(Attempt::Failed(refusal, wait))
            }
            // The place in the blob is another than thought.
            416 => Ok(Attempt::Failed(refusal(answer, self.target), wait)),
            404 | 410 if self.session.is_some() => {
                self.session = None;
                Ok(Attempt::Failed(answer.refusal(&whom(self.target)), wait))
            }
            _ if answer.is_worth_waiting_for() => {
                Ok(Attempt::Failed(answer.refusal(&whom(self.target)), wait))
            }
            400 if self.session.take().is_some_and(|session| session.offset > 0) => {
                // Pieces that do not fit together: once more from the start.
                Ok(Attempt::Failed(refusal(answer, self.target), wait))
            }
            _ => Err(refusal(answer, self.target)),
        }
    }
}
