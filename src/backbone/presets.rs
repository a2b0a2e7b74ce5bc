//! The built-in specs: the published networks, as files read like any other.

use crate::backbone::spec::Spec;
use crate::nearest::suggestion;

/// Name and text of every built-in spec.
pub const PRESETS: [(&str, &str); 10] = [
    ("hgnet-tiny", include_str!("presets/hgnet-tiny.yaml")),
    ("hgnet-small", include_str!("presets/hgnet-small.yaml")),
    ("hgnet-base", include_str!("presets/hgnet-base.yaml")),
    ("hgnetv2-b0", include_str!("presets/hgnetv2-b0.yaml")),
    ("hgnetv2-b1", include_str!("presets/hgnetv2-b1.yaml")),
    ("hgnetv2-b2", include_str!("presets/hgnetv2-b2.yaml")),
    ("hgnetv2-b3", include_str!("presets/hgnetv2-b3.yaml")),
    ("hgnetv2-b4", include_str!("presets/hgnetv2-b4.yaml")),
    ("hgnetv2-b5", include_str!("presets/hgnetv2-b5.yaml")),
    ("hgnetv2-b6", include_str!("presets/hgnetv2-b6.yaml")),
];

/// No built-in spec has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no preset `{name}`; {}", suggestion(name, &PRESETS.map(|(known, _)| known)))]
pub struct UnknownPreset {
    /// What was asked for.
    pub name: String,
}

/// The built-in spec of this name.
///
/// # Errors
/// If there is none.
pub fn preset(name: &str) -> Result<Spec, UnknownPreset> {
    let text = PRESETS.iter().find(|(known, _)| *known == name).map(|(_, text)| text);
    // A test reads every one of them, so what is found can be read.
    text.and_then(|text| Spec::read(text).ok()).ok_or_else(|| UnknownPreset { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_read_and_named_after_its_file() {
        for (name, text) in PRESETS {
            assert_eq!(Spec::read(text).unwrap().name, name);
            assert_eq!(preset(name).unwrap().name, name);
        }
    }

    #[test]
    fn the_nearest_name_is_suggested() {
        for (name, expected) in [
            ("hgnetv2-b7", "there is no preset `hgnetv2-b7`; did you mean `hgnetv2-b0`?"),
            ("hgnet_tiny", "there is no preset `hgnet_tiny`; did you mean `hgnet-tiny`?"),
        ] {
            assert_eq!(preset(name).unwrap_err().to_string(), expected);
        }
        assert!(preset("resnet50").unwrap_err().to_string().contains("known are `hgnet-tiny`, `hgnet-small`"));
    }
}
