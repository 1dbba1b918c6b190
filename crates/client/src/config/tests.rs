//! Precedence: every setting, from every place, against the next one.

use super::{Config, ConfigOptions, Environment, Profiles};
use crate::Error;
use std::path::PathBuf;
use tempfile::TempDir;
use types::TestClock;

/// Everything that can be said, each with a value that names its place.
const CONFIG: &str = "
[default]
region = default-config
aws_access_key_id = DEFAULTCONFIG
aws_secret_access_key = s
[profile work]
region = work-config
aws_access_key_id = WORKCONFIG
aws_secret_access_key = s
endpoint_url = http://work
ca_bundle = /certificates/work
services = here
[profile plain]
endpoint_url = http://plain/prefix/
[services here]
ebs =
  endpoint_url = http://work-ebs
ec2 =
  something_else = 1
[profile fips]
region = eu-west-1
use_fips_endpoint = true
[profile dual]
region = eu-west-1
use_dualstack_endpoint = true
[profile ignoring]
ignore_configured_endpoint_urls = true
endpoint_url = http://ignored
";
const CREDENTIALS: &str = "
[default]
aws_access_key_id = DEFAULT
aws_secret_access_key = s
[work]
aws_access_key_id = WORK
aws_secret_access_key = s
region = work-credentials
";

/// Variables and options (`--name`) as words `NAME=VALUE`.
fn resolve(words: &str, config: &str, credentials: &str) -> Result<Config, Error> {
    let mut options = ConfigOptions::default();
    let mut variables = Vec::new();
    for word in words.split_whitespace() {
        let (name, value) = word.split_once('=').expect("NAME=VALUE");
        let value = value.to_owned();
        match name {
            "--profile" => options.profile = Some(value),
            "--region" => options.region = Some(value),
            "--endpoint-url" => options.endpoint_url = Some(value),
            "--ca-bundle" => options.ca_bundle = Some(PathBuf::from(value)),
            _ => variables.push((name.to_owned(), value)),
        }
    }
    let profiles = Profiles::parse(config, credentials)?;
    Config::resolve(&Environment::new(variables), &options, &profiles)
}

async fn key_id(config: &Config) -> Result<String, Error> {
    let keys = config.credentials.get(&TestClock::at(0)).await?;
    Ok(keys.access_key_id.to_string())
}

fn message<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::Config(message)) => message,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("no error"),
    }
}

#[test]
fn each_region_yields_to_the_one_said_before_it() {
    let check = |words: &str, region: &str| {
        let config = resolve(words, CONFIG, CREDENTIALS).expect("a good configuration");
        assert_eq!(config.region, region, "{words}");
    };
    check("", "default-config");
    check("AWS_DEFAULT_PROFILE=work", "work-credentials");
    check(
        "AWS_PROFILE=default AWS_DEFAULT_PROFILE=work",
        "default-config",
    );
    check("AWS_PROFILE= AWS_DEFAULT_PROFILE=work", "work-credentials");
    check("AWS_PROFILE=default --profile=work", "work-credentials");
    check("AWS_DEFAULT_REGION=older --profile=work", "older");
    check("AWS_REGION=newer AWS_DEFAULT_REGION=older", "newer");
    check("AWS_REGION= AWS_DEFAULT_REGION=older", "older");
    check("--region=option AWS_REGION=newer --profile=work", "option");
}

#[tokio::test]
async fn each_key_yields_to_the_one_said_before_it() {
    const KEYS: &str = "AWS_ACCESS_KEY_ID=ENVIRONMENT AWS_SECRET_ACCESS_KEY=s";
    let check = async |words: &str, id: &str| {
        let config = resolve(words, CONFIG, CREDENTIALS).expect("a good configuration");
        assert_eq!(key_id(&config).await.expect("keys"), id, "{words}");
    };
    check("", "DEFAULT").await;
    check("--profile=work", "WORK").await;
    check("AWS_PROFILE=work", "WORK").await;
    check(KEYS, "ENVIRONMENT").await;
    check(&format!("AWS_PROFILE=work {KEYS}"), "ENVIRONMENT").await;
    // Whoever names a profile means its keys.
    check(&format!("--profile=work {KEYS}"), "WORK").await;
    check("AWS_SECRET_ACCESS_KEY=s --region=r", "DEFAULT").await;
    let config = resolve("", CONFIG, "").expect("a good configuration");
    assert_eq!(key_id(&config).await.expect("keys"), "DEFAULTCONFIG");
}

#[tokio::test]
async fn a_program_stands_between_the_two_files() {
    let both = "[default]\nregion = r\ncredential_process = echo '{\"Version\":1,\"AccessKeyId\":\"PROGRAM\",\"SecretAccessKey\":\"s\"}'\n\
                aws_access_key_id = CONFIG\naws_secret_access_key = s";
    let config = resolve("", both, "").expect("a good configuration");
    assert_eq!(key_id(&config).await.expect("keys"), "PROGRAM");
    let config = resolve("", both, CREDENTIALS).expect("a good configuration");
    assert_eq!(key_id(&config).await.expect("keys"), "DEFAULT");
}

#[tokio::test]
async fn a_session_token_goes_with_its_keys() {
    let token = async |words: &str, credentials: &str| {
        let config = resolve(words, "", credentials).expect("a good configuration");
        let keys = config.credentials.get(&TestClock::at(0)).await;
        let keys = keys.expect("keys");
        keys.session_token.as_ref().map(|token| token.to_string())
    };
    let with = "[default]\naws_access_key_id=A\naws_secret_access_key=s\naws_session_token=file";
    assert_eq!(token("--region=r", with).await.as_deref(), Some("file"));
    let keys = "--region=r AWS_ACCESS_KEY_ID=A AWS_SECRET_ACCESS_KEY=s";
    assert_eq!(token(keys, with).await, None);
    let temporary = format!("{keys} AWS_SESSION_TOKEN=env");
    assert_eq!(token(&temporary, with).await.as_deref(), Some("env"));
}

#[test]
fn each_endpoint_yields_to_the_one_said_before_it() {
    let check = |words: &str, ebs: &str, ec2: &str| {
        let config = resolve(words, CONFIG, CREDENTIALS).expect("a good configuration");
        let found = (config.ebs.to_string(), config.ec2.to_string());
        assert_eq!(found, (ebs.to_owned(), ec2.to_owned()), "{words}");
    };
    let region = "https://ebs.default-config.amazonaws.com/";
    let ec2 = "https://ec2.default-config.amazonaws.com/";
    check("", region, ec2);
    check("--profile=work", "http://work-ebs/", "http://work/");
    let plain = "--profile=plain --region=r";
    check(plain, "http://plain/prefix", "http://plain/prefix");
    let all = "--profile=work AWS_ENDPOINT_URL=http://all";
    check(all, "http://all/", "http://all/");
    let one = format!("{all} AWS_ENDPOINT_URL_EC2=http://one");
    check(&one, "http://all/", "http://one/");
    let option = format!("{one} --endpoint-url=http://option:8512");
    check(&option, "http://option:8512/", "http://option:8512/");
    let ignored = format!("{one} AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=TRUE --region=r");
    let (region, ec2) = (
        "https://ebs.r.amazonaws.com/",
        "https://ec2.r.amazonaws.com/",
    );
    check(&ignored, region, ec2);
    let option = format!("{ignored} --endpoint-url=http://option");
    check(&option, "http://option/", "http://option/");
    check("--profile=ignoring --region=r", region, ec2);
    let heeded = "--profile=ignoring --region=r AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=false";
    check(heeded, "http://ignored/", "http://ignored/");
}

#[test]
fn each_bundle_yields_to_the_one_said_before_it() {
    let check = |words: &str, path: Option<&str>| {
        let config = resolve(words, CONFIG, CREDENTIALS).expect("a good configuration");
        assert_eq!(config.ca_bundle, path.map(PathBuf::from), "{words}");
    };
    check("", None);
    check("--profile=work", Some("/certificates/work"));
    let variable = "--profile=work HOME=/users/me AWS_CA_BUNDLE=~/ca";
    check(variable, Some("/users/me/ca"));
    check(&format!("{variable} --ca-bundle=/option"), Some("/option"));
}

#[test]
fn switches_of_the_environment_come_before_those_of_the_profile() {
    let check = |words: &str, ebs: &str| {
        let config = resolve(words, CONFIG, CREDENTIALS).expect("a good configuration");
        assert_eq!(config.ebs.to_string(), ebs, "{words}");
    };
    check(
        "--profile=fips",
        "https://ebs-fips.eu-west-1.amazonaws.com/",
    );
    check("--profile=dual", "https://ebs.eu-west-1.api.aws/");
    let off = "--profile=fips AWS_USE_FIPS_ENDPOINT=false";
    check(off, "https://ebs.eu-west-1.amazonaws.com/");
    let both = "--profile=fips AWS_USE_DUALSTACK_ENDPOINT=true";
    check(both, "https://ebs-fips.eu-west-1.api.aws/");
}

#[tokio::test]
async fn what_is_missing_or_wrong_is_named() {
    let refused = |words: &str, config: &str, credentials: &str, part: &str| {
        let message = message(resolve(words, config, credentials));
        assert!(message.contains(part), "{words}: {message}");
    };
    refused("", "", "", "no region");
    refused(
        "--profile=nowhere",
        CONFIG,
        CREDENTIALS,
        "no profile 'nowhere'",
    );
    refused("AWS_PROFILE=nowhere", CONFIG, CREDENTIALS, "'nowhere'");
    // In the configuration file only `default` goes without the word.
    refused("--profile=x", "[x]\nregion=r", "", "no profile 'x'");
    refused("--region=evil.example/", "", "", "is no region");
    refused("AWS_REGION=-r", "", "", "is no region");
    refused(
        "--region=r --endpoint-url=ftp://h",
        "",
        "",
        "--endpoint-url",
    );
    refused(
        "--region=r AWS_USE_FIPS_ENDPOINT=yes",
        "",
        "",
        "true or false",
    );
    let services = "[default]\nregion=r\nservices=none";
    refused("", services, "", "no [services none]");
    let fips = "--profile=fips AWS_ENDPOINT_URL=http://h";
    refused(fips, CONFIG, CREDENTIALS, "FIPS");
    let half = "--region=r AWS_ACCESS_KEY_ID=A";
    refused(half, "", "", "no AWS_SECRET_ACCESS_KEY");
    let half = "[default]\naws_access_key_id=A\n[other]\naws_secret_access_key=s";
    refused("--region=r", "", half, "no aws_secret_access_key");
    let process = "[default]\nregion=r\ncredential_process='x";
    refused("", process, "", "quote");
    refused("", "[default]\nregion", "", "configuration file, line 2");
    refused("", "", "x=1", "credentials file, line 1");
}

#[cfg(not(aws_config))]
#[tokio::test]
async fn what_this_build_cannot_do_is_said_when_keys_are_needed() {
    let check = async |config: &str, part: &str| {
        let config = resolve("--region=r", config, "").expect("no keys are needed yet");
        let message = message(key_id(&config).await);
        assert!(message.contains(part), "{message}");
        assert!(message.contains("--cfg aws_config"), "{message}");
    };
    check("", "no credentials are").await;
    check("[default]\nsso_session = s", "'sso_session'").await;
    // A role comes before keys, as in the AWS CLI: they may be those that assume it.
    let role = "[default]\nrole_arn = r\naws_access_key_id=A\naws_secret_access_key=s";
    check(role, "'role_arn'").await;
}

#[tokio::test]
async fn files_are_found_by_variable_and_at_home() {
    let folder = TempDir::new().expect("a folder");
    let home = folder.path().join("home");
    std::fs::create_dir_all(home.join(".aws")).expect("a folder");
    let put = |path: &str, text: &str| {
        std::fs::write(folder.path().join(path), text).expect("a file");
    };
    put("home/.aws/config", "[default]\nregion = home");
    put("home/.aws/credentials", CREDENTIALS);
    put("elsewhere", "[default]\nregion = elsewhere");
    put("home/tilde", "[default]\nregion = tilde");
    put("large", &"#".repeat(1024 * 1024 + 1));
    std::fs::write(folder.path().join("binary"), [0xff]).expect("a file");
    let load = |name: &str, value: &str| {
        let home = ("HOME".to_owned(), home.display().to_string());
        let variables = [home, (name.to_owned(), value.to_owned())];
        Config::load(&Environment::new(variables), &ConfigOptions::default())
    };
    let file = |name: &str| folder.path().join(name).display().to_string();
    let region = |outcome: Result<Config, Error>| outcome.expect("a configuration").region;
    assert_eq!(region(load("X", "")), "home");
    assert_eq!(
        region(load("AWS_CONFIG_FILE", &file("elsewhere"))),
        "elsewhere"
    );
    assert_eq!(region(load("AWS_CONFIG_FILE", "~/tilde")), "tilde");
    let missing = message(load("AWS_CONFIG_FILE", &file("missing")));
    assert!(missing.contains("no region"), "{missing}");
    for name in ["large", "binary", ""] {
        let text = message(load("AWS_CONFIG_FILE", &file(name)));
        assert!(text.contains("cannot be read"), "{text}");
    }
    let config = load("X", "").expect("a configuration");
    assert_eq!(key_id(&config).await.expect("keys"), "DEFAULT");
    let config = load("AWS_SHARED_CREDENTIALS_FILE", &file("missing")).expect("a configuration");
    assert!(key_id(&config).await.is_err());
}

#[test]
fn nothing_shows_secrets() {
    let words =
        "--region=r AWS_ACCESS_KEY_ID=PUBLIC AWS_SECRET_ACCESS_KEY=hush AWS_SESSION_TOKEN=hush";
    let config = resolve(words, "", "").expect("a configuration");
    let shown = format!("{config:?}");
    assert!(
        shown.contains("PUBLIC") && !shown.contains("hush"),
        "{shown}"
    );
    let environment = Environment::new([("AWS_SECRET_ACCESS_KEY".to_owned(), "hush".to_owned())]);
    let shown = format!("{environment:?}");
    assert!(
        shown.contains("AWS_SECRET_ACCESS_KEY") && !shown.contains("hush"),
        "{shown}"
    );
    let process = "[default]\nregion=r\ncredential_process=program hush";
    let shown = format!("{:?}", resolve("", process, "").expect("a configuration"));
    assert!(
        shown.contains("program") && !shown.contains("hush"),
        "{shown}"
    );
}
