//! What every command is given: the global options and the way out.

use super::{Color, Exit, Failure, Global, Level, Output};
use crate::report::{ErrorDocument, Out, document, sanitize, write_json};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The global options and the outputs of one run.
#[derive(Debug)]
pub struct Context {
    /// The options.
    pub global: Global,
    /// Standard output.
    pub out: Out,
    /// Set when standard output carries a stream: then documents go to standard error.
    pub streams: bool,
    level: Level,
}

impl Context {
    pub(super) fn new(global: Global) -> Self {
        let color = match global.color {
            Color::Auto => None,
            Color::Always => Some(true),
            Color::Never => Some(false),
        };
        let from_env = || {
            use clap::ValueEnum;
            std::env::var("NSPROBE_LOG").ok().and_then(|v| Level::from_str(&v, true).ok())
        };
        let level = global.log.or_else(from_env).unwrap_or(Level::Error);
        Self { out: Out::new(color), streams: false, level, global }
    }

    /// Whether a JSON document is wanted.
    pub fn json(&self) -> bool {
        self.global.output == Output::Json
    }

    /// Where to look for pods.
    pub fn pods(&self) -> crate::pods::Options {
        crate::pods::Options {
            host_root: self.global.host_root.clone(),
            endpoint: self.global.runtime_endpoint.clone(),
            timeout: self.global.runtime_timeout,
        }
    }

    /// Whatever is opened as the host root has to be a folder: a pipe would be waited for.
    pub(super) fn check_host_root(&self) -> Result<(), Failure> {
        let root = &self.global.host_root;
        match std::fs::metadata(root) {
            Ok(found) if !found.is_dir() => {
                Err(Failure::usage(format!("cannot open the host root {}: not a directory", root.display())))
            }
            _ => Ok(()),
        }
    }

    /// A file of the node, under `--host-root`.
    pub fn host_path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.global.host_root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Prints the report of a command in the form that was asked for: the document, or the text that
    /// `render` makes.
    ///
    /// # Errors
    /// The write's.
    pub fn report<T: Serialize>(
        &mut self,
        schema: &'static str,
        body: &T,
        render: impl FnOnce(&Out) -> String,
    ) -> Result<(), Failure> {
        self.report_line(schema, body, false, render)
    }

    /// The same; where documents follow one another (`--watch`, `--follow`) each is one line.
    ///
    /// # Errors
    /// The write's.
    pub fn report_line<T: Serialize>(
        &mut self,
        schema: &'static str,
        body: &T,
        one_line: bool,
        render: impl FnOnce(&Out) -> String,
    ) -> Result<(), Failure> {
        if self.json() {
            self.out.document(&document(schema, body), one_line)?;
        } else {
            let text = render(&self.out);
            self.out.text(&text)?;
        }
        Ok(())
    }

    /// A line for people on standard error, unless `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.global.quiet {
            // Nobody is left to tell when standard error is gone.
            let _ = writeln!(std::io::stderr(), "{}", sanitize(text));
        }
    }

    /// A diagnostic on standard error when `--log` asks for its level.
    pub fn log(&self, level: Level, text: &str) {
        if level <= self.level {
            let _ = writeln!(std::io::stderr(), "nsprobe: {}", sanitize(text));
        }
    }

    pub(super) fn fail(&mut self, failure: &Failure) -> Exit {
        if failure.message.is_empty() {
            return Exit::Code(failure.code);
        }
        if self.json() {
            let body = ErrorDocument {
                code: failure.code,
                message: failure.message.clone(),
                hint: failure.hint.clone(),
            };
            let wrapped = document("nsprobe.error/v1", &body);
            if self.streams {
                let _ = write_json(&mut std::io::stderr().lock(), &wrapped, true);
            } else {
                // The exit code still tells when the document cannot be written.
                let _ = self.out.document(&wrapped, false);
            }
        }
        let mut line = format!("nsprobe: {}", sanitize(&failure.message));
        if let Some(hint) = &failure.hint {
            line.push_str(&format!("\n  next: {}", sanitize(hint)));
        }
        let _ = writeln!(std::io::stderr(), "{line}");
        Exit::Code(failure.code)
    }
}
