//! What `--target` means on this machine: one resolution for every command that takes it.
//!
//! `auto` takes a real GPU if one can be used, and else the processor; it never takes a software adapter. `gpu` without
//! one is a failure that says what was looked for. Nothing else is ever used instead of what was asked for.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

#[cfg(feature = "gpu")]
use bbc::profile::Device;
use bbc::profile::DeviceKind;
#[cfg(feature = "gpu")]
use bbc::profile::shader::Adapter;

use super::Global;
use super::failure::Failure;

/// What was asked for with `--target`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A real GPU if one can be used, else the processor.
    Auto,
    /// A real GPU.
    Gpu,
    /// The processor.
    Cpu,
    /// The adapter whose name this is, or is part of.
    Named(String),
}

impl FromStr for Wish {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.to_lowercase().as_str() {
            "auto" => Self::Auto,
            "gpu" => Self::Gpu,
            "cpu" => Self::Cpu,
            _ => Self::Named(text.to_owned()),
        })
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
            Self::Named(name) => name,
        })
    }
}

/// An adapter that could be the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its name, which no other adapter has.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: DeviceKind,
    /// The interface it is reached by.
    pub(crate) backend: String,
}

/// What there is on this machine, looked at no further than needed.
pub(crate) trait Machine {
    /// The adapters, the best first.
    fn adapters(&self) -> Vec<Candidate>;
    /// Whether the adapter at this place computes; why not.
    fn try_adapter(&self, index: usize) -> Result<(), String>;
    /// The names of execution providers for GPUs, the best first.
    fn gpu_providers(&self) -> Vec<String>;
    /// Whether the provider computes; why not.
    fn try_provider(&self, name: &str) -> Result<(), String>;
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// The processor.
    Cpu,
    /// The adapter at this place.
    Adapter(usize),
    /// A GPU that no adapter stands for but an execution provider computes on.
    Provider(String),
}

/// The target that is meant, tried and found to compute.
///
/// # Errors
/// If a GPU was asked for and there is none that can be used, or a name fits no adapter or several.
pub(crate) fn resolve(wish: &Wish, machine: &dyn Machine) -> Result<Target, Failure> {
    match wish {
        Wish::Cpu => Ok(Target::Cpu),
        Wish::Auto => Ok(real_gpu(machine).unwrap_or(Target::Cpu)),
        Wish::Gpu => real_gpu(machine).map_err(|tried| no_gpu(&tried, machine)),
        Wish::Named(name) => named(name, machine),
    }
}

/// The first real GPU that computes; or all that was tried, and why each was refused.
fn real_gpu(machine: &dyn Machine) -> Result<Target, Vec<String>> {
    let mut tried = Vec::new();
    let adapters = machine.adapters();
    if adapters.is_empty() {
        tried.push("adapters: none found by wgpu".to_owned());
    }
    for (index, adapter) in adapters.iter().enumerate() {
        if adapter.kind.is_software() {
            tried.push(format!("{adapter}: software, whose speed means nothing"));
            continue;
        }
        match machine.try_adapter(index) {
            Ok(()) => return Ok(Target::Adapter(index)),
            Err(why) => tried.push(format!("{adapter}: {why}")),
        }
    }
    for name in machine.gpu_providers() {
        match machine.try_provider(&name) {
            Ok(()) => return Ok(Target::Provider(name)),
            Err(why) => tried.push(format!("provider `{name}`: {why}")),
        }
    }
    Err(tried)
}

fn no_gpu(tried: &[String], machine: &dyn Machine) -> Failure {
    let tried: Vec<String> = tried.iter().map(|line| format!("\n  {}", line.replace('\n', "\n    "))).collect();
    let failure = Failure::new(format!("no GPU can be used here; looked at{}", tried.concat()));
    failure.with_hint(format!("choose `--target cpu`{}", choices(&machine.adapters())))
}

/// The adapters as choices behind `--target cpu`.
fn choices(adapters: &[Candidate]) -> String {
    let name = |adapter: &Candidate| {
        let mark = if adapter.kind.is_software() { " (software)" } else { "" };
        format!(" or `--target \"{}\"`{mark}", adapter.name)
    };
    adapters.iter().map(name).collect()
}

fn named(name: &str, machine: &dyn Machine) -> Result<Target, Failure> {
    let adapters = machine.adapters();
    let wanted = name.to_lowercase();
    let exact = adapters.iter().position(|adapter| adapter.name.to_lowercase() == wanted);
    let mut parts = adapters.iter().enumerate().filter(|(_, adapter)| adapter.name.to_lowercase().contains(&wanted));
    let index = match (exact, parts.next(), parts.next()) {
        (Some(index), _, _) | (None, Some((index, _)), None) => index,
        (None, Some(_), Some(_)) => {
            return Err(Failure::new(format!("`{name}` is part of the names of several adapters"))
                .with_hint(format!("choose one of{}", choices(&adapters).replacen(" or", "", 1))));
        }
        (None, None, _) => {
            return Err(Failure::new(format!("no adapter is called `{name}`"))
                .with_hint(format!("choose `--target auto`, `gpu` or `cpu`{}", choices(&adapters))));
        }
    };
    match machine.try_adapter(index) {
        Ok(()) => Ok(Target::Adapter(index)),
        Err(why) => Err(Failure::new(format!("{} cannot be used: {why}", adapters[index]))
            .with_hint("choose `--target cpu` to measure the processor instead")),
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "adapter `{}` ({})", self.name, self.backend)
    }
}

/// This machine.
pub(crate) struct Here<'g> {
    global: &'g Global,
    #[cfg(feature = "gpu")]
    adapters: std::cell::OnceCell<Vec<Adapter>>,
}

impl<'g> Here<'g> {
    /// This machine, with ONNX Runtime as the options say.
    pub(crate) fn new(global: &'g Global) -> Self {
        Self {
            global,
            #[cfg(feature = "gpu")]
            adapters: std::cell::OnceCell::new(),
        }
    }

    /// The adapters of this machine, in the order of [`Target::Adapter`].
    #[cfg(feature = "gpu")]
    pub(crate) fn wgpu_adapters(&self) -> &[Adapter] {
        self.adapters.get_or_init(bbc::profile::shader::adapters)
    }

    /// Whether the processor acts as the adapter at this place.
    pub(crate) fn is_software(&self, index: usize) -> bool {
        self.adapters().get(index).is_some_and(|adapter| adapter.kind.is_software())
    }

    /// The device of [`Target::Adapter`].
    #[cfg(feature = "gpu")]
    pub(crate) fn device(&self, index: usize) -> Device {
        Device::from(&self.wgpu_adapters()[index])
    }

    /// The device of [`Target::Adapter`], of which there is none.
    #[cfg(not(feature = "gpu"))]
    pub(crate) fn device(&self, _: usize) -> bbc::profile::Device {
        unreachable!("without adapters none is a target")
    }

    /// The name of the execution provider that models for this target run on; `None` if ONNX Runtime has none.
    pub(crate) fn provider_of(&self, target: &Target) -> Option<String> {
        match target {
            Target::Cpu => Some("cpu".into()),
            Target::Provider(name) => Some(name.clone()),
            #[cfg(feature = "gpu")]
            Target::Adapter(index) => provider_of_adapter(self.wgpu_adapters().get(*index)?).map(str::to_owned),
            #[cfg(not(feature = "gpu"))]
            Target::Adapter(_) => None,
        }
    }

    /// The target in a few words.
    pub(crate) fn describe(&self, target: &Target) -> String {
        match target {
            Target::Cpu => "the processor".into(),
            Target::Provider(name) => format!("the GPU that provider `{name}` takes"),
            Target::Adapter(index) => self.adapters().get(*index).map_or("the adapter".into(), ToString::to_string),
        }
    }

    /// The directory that things are kept in from one command to the next; `None` where nothing says which.
    #[cfg(feature = "run")]
    pub(crate) fn data_directory(&self) -> Option<std::path::PathBuf> {
        bbc::runtime::library::Surroundings::of_process(self.global.ort_lib.clone()).data_directory().ok()
    }

    /// ONNX Runtime, loaded.
    #[cfg(feature = "run")]
    pub(crate) fn runtime(&self) -> Result<bbc::runtime::Runtime, Failure> {
        super::ort::runtime(self.global)
    }
}

/// NVIDIA's number among PCI vendors.
#[cfg(feature = "gpu")]
const NVIDIA: u32 = 0x10de;

#[cfg(feature = "gpu")]
fn provider_of_adapter(adapter: &Adapter) -> Option<&'static str> {
    match adapter.vendor {
        _ if adapter.is_software() => None,
        _ if cfg!(target_os = "macos") => Some("coreml"),
        NVIDIA => Some("cuda"),
        _ if cfg!(windows) => Some("directml"),
        _ => None,
    }
}

impl Machine for Here<'_> {
    #[cfg(feature = "gpu")]
    fn adapters(&self) -> Vec<Candidate> {
        let candidate = |adapter: &Adapter| Candidate {
            name: adapter.name.clone(),
            kind: Device::from(adapter).kind,
            backend: adapter.backend.to_owned(),
        };
        self.wgpu_adapters().iter().map(candidate).collect()
    }

    #[cfg(feature = "gpu")]
    fn try_adapter(&self, index: usize) -> Result<(), String> {
        let adapter = self.wgpu_adapters().get(index).ok_or("there is no such adapter")?;
        adapter.probe().map_err(|error| error.to_string())
    }

    #[cfg(not(feature = "gpu"))]
    fn adapters(&self) -> Vec<Candidate> {
        Vec::new()
    }

    #[cfg(not(feature = "gpu"))]
    fn try_adapter(&self, _: usize) -> Result<(), String> {
        Err("this bbc is built without the feature `gpu`".into())
    }

    #[cfg(feature = "run")]
    fn gpu_providers(&self) -> Vec<String> {
        use bbc::runtime::provider::Provider;

        // TensorRT takes minutes to build a model; it is used where it is asked for.
        let of_gpus = |provider: &Provider| !matches!(provider, Provider::Cpu | Provider::TensorRt);
        Provider::of_this_system().filter(of_gpus).map(|provider| provider.name().to_owned()).collect()
    }

    #[cfg(feature = "run")]
    fn try_provider(&self, name: &str) -> Result<(), String> {
        use bbc::runtime::provider::Provider;

        let provider = Provider::named(name).ok_or("there is no such provider")?;
        let runtime = self.runtime().map_err(|failure| failure.to_string())?;
        let verdict = super::ort::try_provider(&runtime, provider).map_err(|failure| failure.to_string())?;
        if verdict.usable { Ok(()) } else { Err(verdict.reason.unwrap_or_default()) }
    }

    #[cfg(not(feature = "run"))]
    fn gpu_providers(&self) -> Vec<String> {
        Vec::new()
    }

    #[cfg(not(feature = "run"))]
    fn try_provider(&self, _: &str) -> Result<(), String> {
        Err("this bbc is built without the feature `run`".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adapters and providers, each with why it cannot be used, or an empty text.
    struct Fake {
        adapters: &'static [(&'static str, DeviceKind, &'static str)],
        providers: &'static [(&'static str, &'static str)],
    }

    impl Machine for Fake {
        fn adapters(&self) -> Vec<Candidate> {
            let candidate = |&(name, kind, _): &(&str, DeviceKind, &str)| Candidate {
                name: name.into(),
                kind,
                backend: "vulkan".into(),
            };
            self.adapters.iter().map(candidate).collect()
        }

        fn try_adapter(&self, index: usize) -> Result<(), String> {
            let why = self.adapters[index].2;
            if why.is_empty() { Ok(()) } else { Err(why.to_owned()) }
        }

        fn gpu_providers(&self) -> Vec<String> {
            self.providers.iter().map(|(name, _)| (*name).to_owned()).collect()
        }

        fn try_provider(&self, name: &str) -> Result<(), String> {
            let why = self.providers.iter().find(|(known, _)| *known == name).map_or("unknown", |(_, why)| why);
            if why.is_empty() { Ok(()) } else { Err(why.to_owned()) }
        }
    }

    const NOTHING: Fake = Fake { adapters: &[], providers: &[] };
    const SOFTWARE: Fake = Fake {
        adapters: &[("llvmpipe (LLVM 15)", DeviceKind::Software, "")],
        providers: &[("cuda", "this ONNX Runtime library is built without it")],
    };
    const TWO_GPUS: Fake = Fake {
        adapters: &[
            ("Big GPU", DeviceKind::DiscreteGpu, "the device was lost"),
            ("Small GPU", DeviceKind::IntegratedGpu, ""),
            ("Small GPU #2", DeviceKind::IntegratedGpu, ""),
            ("llvmpipe", DeviceKind::Software, ""),
        ],
        providers: &[],
    };
    const NO_VULKAN: Fake = Fake { adapters: &[], providers: &[("tensorrt", "its library is missing"), ("cuda", "")] };

    fn resolved(wish: &str, machine: &Fake) -> Result<Target, String> {
        let Ok(wish) = wish.parse::<Wish>();
        resolve(&wish, machine).map_err(|failure| failure.to_string())
    }

    #[test]
    fn targets() {
        for (name, wish, machine, expected) in [
            ("auto takes no software adapter", "auto", &SOFTWARE, Target::Cpu),
            ("auto takes a GPU that computes", "auto", &TWO_GPUS, Target::Adapter(1)),
            (
                "auto takes a provider's GPU where there is no adapter",
                "auto",
                &NO_VULKAN,
                Target::Provider("cuda".into()),
            ),
            ("auto is the processor where there is nothing", "Auto", &NOTHING, Target::Cpu),
            ("gpu", "gpu", &TWO_GPUS, Target::Adapter(1)),
            ("cpu", "cpu", &TWO_GPUS, Target::Cpu),
            ("part of a name", "LLVM", &SOFTWARE, Target::Adapter(0)),
            ("a name before a longer one", "small gpu", &TWO_GPUS, Target::Adapter(1)),
        ] {
            assert_eq!(resolved(wish, machine), Ok(expected), "{name}");
        }
    }

    #[test]
    fn refusals_say_what_was_looked_for_and_what_to_choose() {
        let said = [
            ("gpu", &NOTHING),
            ("gpu", &SOFTWARE),
            ("Big GPU", &TWO_GPUS),
            ("Small", &TWO_GPUS),
            ("Radeon", &TWO_GPUS),
        ]
        .map(|(wish, machine)| resolved(wish, machine).unwrap_err());
        insta::assert_snapshot!(said.join("\n----\n"), @r#"
        no GPU can be used here; looked at
          adapters: none found by wgpu

        hint: choose `--target cpu`
        ----
        no GPU can be used here; looked at
          adapter `llvmpipe (LLVM 15)` (vulkan): software, whose speed means nothing
          provider `cuda`: this ONNX Runtime library is built without it

        hint: choose `--target cpu` or `--target "llvmpipe (LLVM 15)"` (software)
        ----
        adapter `Big GPU` (vulkan) cannot be used: the device was lost

        hint: choose `--target cpu` to measure the processor instead
        ----
        `Small` is part of the names of several adapters

        hint: choose one of `--target "Big GPU"` or `--target "Small GPU"` or `--target "Small GPU #2"` or `--target "llvmpipe"` (software)
        ----
        no adapter is called `Radeon`

        hint: choose `--target auto`, `gpu` or `cpu` or `--target "Big GPU"` or `--target "Small GPU"` or `--target "Small GPU #2"` or `--target "llvmpipe"` (software)
        "#);
    }
}
