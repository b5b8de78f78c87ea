//! One data root, opened: what a command can do with instances.

use std::path::Path;

use crate::{
    control,
    database::Database,
    error::{EngineError, Result},
    files,
    instance::{Instance, State},
    launch::{self, Attached},
    reconcile,
    root::Root,
    spec::RunSpec,
};

/// The engine on one data root.
#[derive(Debug)]
pub struct Engine {
    pub(crate) root: Root,
    pub(crate) database: Database,
}

impl Engine {
    /// Opens a data root, made when absent, and cleans up after monitors that died.
    ///
    /// # Errors
    /// When the root cannot be used, or what a dead monitor left cannot be removed.
    pub fn open(root: &Path) -> Result<Self> {
        let engine = Self::open_as_is(root)?;
        reconcile::reconcile(&engine)?;
        Ok(engine)
    }

    /// Opens a data root without cleaning up: what a monitor does.
    pub(crate) fn open_as_is(root: &Path) -> Result<Self> {
        files::make_dir(root)?;
        let root = std::path::absolute(root).map_err(EngineError::file("find", root))?;
        let root = Root::new(&root);
        files::make_dir(&root.instances())?;
        let database = Database::open(&root)?;
        Ok(Self { root, database })
    }

    /// The image store of this root.
    ///
    /// # Errors
    /// When the store cannot be opened.
    pub fn images(&self) -> Result<image::Store> {
        Ok(image::Store::open(self.root.path())?)
    }

    /// Takes an image's name away, and its content unless another name or an instance needs it.
    ///
    /// # Errors
    /// When there is no such image or its files cannot be removed.
    pub fn remove_image(&self, reference: &image::Reference) -> Result<()> {
        let in_use: Vec<_> = self.list()?.iter().filter_map(|i| i.digest.parse().ok()).collect();
        Ok(self.images()?.remove(reference, &in_use)?)
    }

    /// Records an instance and starts its monitor, attached to it.
    ///
    /// # Errors
    /// When the image or the name cannot be used, or the monitor cannot be started. Nothing is left then.
    pub fn launch(&self, spec: RunSpec) -> Result<Attached> {
        launch::launch(self, spec)
    }

    /// All instances, oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub fn list(&self) -> Result<Vec<Instance>> {
        self.database.list()
    }

    /// The instance with this name, id, or beginning of an id.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn find(&self, name: &str) -> Result<Instance> {
        self.database.find(name)
    }

    /// Ends a running instance: asks its app with SIGTERM, and ends it by force after the grace period, in seconds.
    ///
    /// # Errors
    /// When there is no such instance or its monitor does not answer.
    pub fn stop(&self, name: &str, grace_s: u32) -> Result<Instance> {
        let instance = self.find(name)?;
        if instance.state != State::Exited {
            control::stop(&instance, grace_s)?;
        }
        Ok(instance)
    }

    /// Removes an instance and its read-write layer. A running one must be ended first, unless forced.
    ///
    /// # Errors
    /// When there is no such instance, it runs, or its files cannot be removed.
    pub fn remove(&self, name: &str, force: bool) -> Result<Instance> {
        let mut instance = self.find(name)?;
        if instance.state != State::Exited {
            if !force {
                return Err(EngineError::State {
                    name: instance.name,
                    state: instance.state.as_str().to_owned(),
                    hint: "stop it first with `carve stop`, or remove it by `carve rm --force`",
                });
            }
            control::stop(&instance, 0)?;
            reconcile::reconcile(self)?;
            instance = match self.find(&instance.id) {
                // An instance started with --rm removed itself when it ended.
                Err(EngineError::NoSuchInstance(_)) => return Ok(instance),
                found => found?,
            };
        }
        self.destroy(&instance.id)?;
        Ok(instance)
    }

    /// Removes an ended instance's files, then its record: killed in between, the next removal finds the record.
    pub(crate) fn destroy(&self, id: &str) -> Result<()> {
        files::remove_dir(&Instance::dir_in(&self.root, id))?;
        self.database.delete(id)
    }
}
