//! Puts the sidecar into pods that others wrote, and takes it out again. One patch function ([`inject::inject`]) serves files (`token-sidecar
//! inject`) and the cluster (`token-sidecar webhook`).
//!
//! Here is what to do to a pod, and how it is asked for and answered. Profiles are read by `config`; processes are run by `app`.

mod again;
mod aks;
mod bounds;
pub mod check;
mod container;
pub mod files;
mod hindrances;
mod image;
pub mod inject;
pub mod manifest;
mod mesh;
pub mod mounts;
mod patch;
mod paths;
mod pod;
mod problems;
pub mod profile;
pub mod remove;
pub mod resources;
pub mod review;
mod rewrite;
mod settled;
mod status;
mod warnings;
pub mod webhook;
mod windows;
mod wish;
mod yaml;

#[cfg(test)]
pub(crate) mod tests;

pub use bounds::MAX_CONFIGURATION;
pub use image::image;
pub use wish::ANNOTATIONS;
