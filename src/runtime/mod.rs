//! ONNX Runtime: finding and fetching its library, what its providers can do here, and sessions that run a model.
//!
//! A [`Runtime`] is the proof that the library is loaded; whatever computes asks for one.
//!
//! ```no_run
//! use bbc::runtime::{Runtime, library, provider::Provider, session::{Options, Session}};
//!
//! let library = library::find(&library::Surroundings::of_process(None))?;
//! let runtime = Runtime::load(library)?;
//! let model = std::fs::read("backbone.onnx")?;
//! let session = Session::from_bytes(&runtime, &model, &Options::on(Provider::Cpu))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What a session is given is bytes and tensors: nothing here knows who made them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use thiserror::Error;

use self::library::{Library, Version};

pub mod library;
pub mod noise;
pub mod provider;
pub mod record;
pub mod session;

/// The one library of this process, once it is loaded.
static LOADED: Mutex<Option<&'static Loaded>> = Mutex::new(None);
/// The last errors the library wrote to its log: some of its calls say there, and only there, why they failed.
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());
const LOG_LENGTH: usize = 16;

/// ONNX Runtime, loaded and ready.
#[derive(Clone, Copy)]
pub struct Runtime(&'static Loaded);

struct Loaded {
    library: Library,
    environment: Environment,
}

/// Why a library that was found could not be put to use.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The process has loaded another one, and can have only one.
    #[error("`{wanted}` cannot be loaded: this process already uses `{loaded}`")]
    AnotherIsLoaded {
        /// The library in use.
        loaded: PathBuf,
        /// The library asked for.
        wanted: PathBuf,
    },
    /// The library refused to start.
    #[error("`{path}` cannot be started: {message}")]
    NotStarted {
        /// The library.
        path: PathBuf,
        /// What it or the system's loader says.
        message: String,
    },
}

impl Runtime {
    /// Puts a library to use. The same library can be loaded again; the process then still has it once.
    ///
    /// The official builds collect data about their use and send it to their maker unless the variable
    /// `ORT_DISABLE_TELEMETRY` is set; where it is not, this sets it to `1` for the process. No other thread may read
    /// the environment past Rust's own functions meanwhile.
    ///
    /// # Errors
    /// If the process uses another library, or this one cannot be started.
    pub fn load(library: Library) -> Result<Self, LoadError> {
        let mut slot = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = *slot {
            if loaded.library.path == library.path {
                return Ok(Self(loaded));
            }
            return Err(LoadError::AnotherIsLoaded { loaded: loaded.library.path.clone(), wanted: library.path });
        }
        disable_telemetry();
        let not_started = |message| LoadError::NotStarted { path: library.path.clone(), message };
        let environment = ort::init_from(&library.path)
            .map_err(|error| not_started(error.to_string()))?
            .with_name("bbc")
            .with_telemetry(false)
            .with_logger(Arc::new(|level, _, _, _, message| keep(level, message)))
            .build()
            .map_err(|error| not_started(error.to_string()))?;
        environment.set_log_level(LogLevel::Error);
        let loaded: &Loaded = Box::leak(Box::new(Loaded { library, environment }));
        *slot = Some(loaded);
        Ok(Self(loaded))
    }

    /// The library's version.
    pub fn version(&self) -> Version {
        self.0.library.version
    }

    /// The library's path; only a name where the system's loader found it.
    pub fn path(&self) -> &Path {
        &self.0.library.path
    }

    /// Where the library was found.
    pub fn place(&self) -> library::Place {
        self.0.library.place
    }

    fn site_packages(&self) -> &[PathBuf] {
        &self.0.library.site_packages
    }

    fn environment(&self) -> &Environment {
        &self.0.environment
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("path", &self.path()).field("version", &self.version()).finish()
    }
}

/// Keeps the library from collecting and sending data about its use.
///
/// The setting that the environment is built with comes too late: a first event is written as soon as it exists.
#[expect(unsafe_code, reason = "the library takes this from the process's environment only")]
fn disable_telemetry() {
    if std::env::var_os("ORT_DISABLE_TELEMETRY").is_none() {
        // SAFETY: readers that go through the standard library are locked out; the others are ruled out by the contract
        // of `Runtime::load`.
        unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    }
}

fn keep(level: LogLevel, message: &str) {
    if matches!(level, LogLevel::Error | LogLevel::Fatal) {
        let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() < LOG_LENGTH {
            log.push(message.chars().take(2000).collect());
        }
    }
}

/// Takes what the library wrote to its log since this was last called.
fn take_log() -> Vec<String> {
    std::mem::take(&mut *LOG.lock().unwrap_or_else(PoisonError::into_inner))
}
