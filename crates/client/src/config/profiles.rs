//! The two files of the AWS tools, and the profile in them that counts.
//!
//! A profile is `[NAME]` in the credentials file and `[profile NAME]` in the configuration file, joined; a property that both
//! have is that of the credentials file. The profile `default` may be `[default]` in both, and need not exist.

use super::{ConfigOptions, Environment, ini};
use crate::Error;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Most bytes of either file: far more than people write, little enough to read whatever is named by mistake.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// What the configuration file and the credentials file say.
#[derive(Default)]
pub struct Profiles {
    config: BTreeMap<String, ini::Section>,
    credentials: BTreeMap<String, ini::Section>,
}

impl Profiles {
    /// Reads the files of this environment: `AWS_CONFIG_FILE` and `AWS_SHARED_CREDENTIALS_FILE`, else those in `~/.aws`. A file
    /// that does not exist says nothing.
    ///
    /// # Errors
    /// [`Error::Config`]: a file cannot be read, or its form is wrong.
    pub fn read(environment: &Environment) -> Result<Profiles, Error> {
        let Paths {
            config,
            credentials,
        } = Paths::find(environment);
        Ok(Profiles {
            config: read(config)?,
            credentials: read(credentials)?,
        })
    }

    /// The same from the texts of the two files.
    ///
    /// # Errors
    /// [`Error::Config`]: a text's form is wrong.
    pub fn parse(config: &str, credentials: &str) -> Result<Profiles, Error> {
        Ok(Profiles {
            config: parse("the configuration file", config)?,
            credentials: parse("the credentials file", credentials)?,
        })
    }
}

/// Where the two files are, if anywhere.
pub(super) struct Paths {
    pub(super) config: Option<PathBuf>,
    pub(super) credentials: Option<PathBuf>,
}

impl Paths {
    pub(super) fn find(environment: &Environment) -> Paths {
        let path = |variable, usual| {
            let home = || Some(Path::new(environment.get("HOME")?).join(usual));
            let named = environment.get(variable);
            named.map(|path| environment.expand(path)).or_else(home)
        };
        Paths {
            config: path("AWS_CONFIG_FILE", ".aws/config"),
            credentials: path("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
        }
    }
}

/// One profile, perhaps one without any property.
pub(super) struct Profile<'a> {
    name: &'a str,
    config: Option<&'a ini::Section>,
    credentials: Option<&'a ini::Section>,
    services: Option<&'a ini::Section>,
}

impl<'a> Profile<'a> {
    /// The profile that option or environment name, else `default`.
    pub(super) fn choose(
        environment: &'a Environment,
        options: &'a ConfigOptions,
        profiles: &'a Profiles,
    ) -> Result<Profile<'a>, Error> {
        let option = options.profile.as_deref();
        let variables = || environment.either("AWS_PROFILE", "AWS_DEFAULT_PROFILE");
        let name = option.or_else(variables).unwrap_or("default");
        let long_name = format!("profile {name}");
        let short = profiles.config.get(name).filter(|_| name == "default");
        let mut profile = Profile {
            name,
            config: profiles.config.get(&long_name).or(short),
            credentials: profiles.credentials.get(name),
            services: None,
        };
        if profile.config.is_none() && profile.credentials.is_none() && name != "default" {
            return Err(Error::Config(format!(
                "there is no profile '{name}': neither [{long_name}] in the configuration file nor [{name}] in the credentials file"
            )));
        }
        if let Some(services) = profile.get("services") {
            let section = profiles.config.get(&format!("services {services}"));
            let missing = || {
                Error::Config(format!(
                    "{profile} names services '{services}', but there is no [services {services}]"
                ))
            };
            profile.services = Some(section.ok_or_else(missing)?);
        }
        Ok(profile)
    }

    /// The name.
    pub(super) fn name(&self) -> &'a str {
        self.name
    }

    /// The value of a property that is there and not empty.
    pub(super) fn get(&self, property: &str) -> Option<&'a str> {
        self.in_credentials_file(property)
            .or_else(|| self.in_config_file(property))
    }

    /// The same in the credentials file alone.
    pub(super) fn in_credentials_file(&self, property: &str) -> Option<&'a str> {
        value(self.credentials, property)
    }

    /// The same in the configuration file alone.
    pub(super) fn in_config_file(&self, property: &str) -> Option<&'a str> {
        value(self.config, property)
    }

    /// The value of a property of one service.
    pub(super) fn of_service(&self, service: &str, property: &str) -> Option<&'a str> {
        let nested = self.services?.get(service)?.nested(property);
        nested.filter(|value| !value.is_empty())
    }
}

impl fmt::Display for Profile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "profile '{}'", self.name)
    }
}

fn value<'a>(section: Option<&'a ini::Section>, property: &str) -> Option<&'a str> {
    let value = section?.get(property)?.value.as_str();
    Some(value).filter(|value| !value.is_empty())
}

fn read(path: Option<PathBuf>) -> Result<BTreeMap<String, ini::Section>, Error> {
    let Some(path) = path else {
        return Ok(BTreeMap::new());
    };
    let shown = path.display().to_string();
    let cannot = |what: &dyn fmt::Display| Error::Config(format!("{shown} cannot be read: {what}"));
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(cannot(&error)),
    };
    // Allocated once, so that growing leaves no copies of secrets behind.
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let size = usize::try_from(size).unwrap_or(FILE_BYTES_MAX);
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.min(FILE_BYTES_MAX) + 1));
    file.take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| cannot(&error))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(cannot(&"it is larger than 1 MiB"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| cannot(&"it is no UTF-8"))?;
    parse(&shown, text)
}

fn parse(name: &str, text: &str) -> Result<BTreeMap<String, ini::Section>, Error> {
    ini::parse(text).map_err(|(line, what)| Error::Config(format!("{name}, line {line}: {what}")))
}
