//! `DescribeRegions` and STS `GetCallerIdentity`.

use super::{EC2, World};

const STS: &str = "Action=GetCallerIdentity&Version=2011-06-15";

#[tokio::test]
async fn the_region_is_told() {
    let world = World::new().await;
    let region = "<regionInfo><item><regionName>eu-test-1</regionName><regionEndpoint>127.0.0.1:9877</regionEndpoint>\
        <optInStatus>opt-in-not-required</optInStatus></item></regionInfo>";
    for (form, wanted) in [
        ("", region),
        ("&AllRegions=true", region),
        ("&RegionName.1=eu-test-1", region),
        ("&Filter.1.Name=region-name&Filter.1.Value.1=eu-*", region),
        ("&Filter.1.Name=endpoint&Filter.1.Value.1=*:9877", region),
        (
            "&Filter.1.Name=opt-in-status&Filter.1.Value.1=opted-in",
            "<regionInfo></regionInfo>",
        ),
    ] {
        let answer = world.ec2(&format!("Action=DescribeRegions{form}")).await;
        assert_eq!(answer.content("DescribeRegionsResponse"), wanted);
    }
    let unknown = world
        .ec2("Action=DescribeRegions&RegionName.1=us-east-1")
        .await;
    assert_eq!(unknown.refusal(), "InvalidParameterValue");
    assert_eq!(
        world
            .ec2("Action=DescribeRegions&DryRun=true")
            .await
            .refusal(),
        "DryRunOperation"
    );
}

#[tokio::test]
async fn the_caller_is_told() {
    let world = World::new().await;
    let account = world.caller.account;
    let answer = world.post(&world.caller, "sts", STS).await;
    let wanted = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
         <Arn>arn:aws:iam::{account}:root</Arn><UserId>{account}</UserId><Account>{account}</Account>\
         </GetCallerIdentityResult><ResponseMetadata><RequestId>REQUEST</RequestId></ResponseMetadata>\
         </GetCallerIdentityResponse>"
    );
    assert_eq!(answer.body, wanted);
    assert_eq!(answer.headers["content-type"], "text/xml");
    assert_eq!(answer.operation.0, "GetCallerIdentity");
}

#[tokio::test]
async fn sts_refuses_in_its_own_form() {
    let world = World::new().await;
    let refusal = |code: &str, message: &str| {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
             <Code>{code}</Code><Message>{message}</Message></Error><RequestId>REQUEST</RequestId></ErrorResponse>"
        )
    };
    let answer = world
        .post(
            &world.caller,
            "sts",
            "Action=DescribeTags&Version=2011-06-15",
        )
        .await;
    let message = "The action DescribeTags is not valid for this web service.";
    assert_eq!(answer.body, refusal("InvalidAction", message));
    let answer = world
        .post(&world.caller, "sts", &format!("{STS}&DryRun=true"))
        .await;
    assert_eq!(
        answer.body,
        refusal("UnknownParameter", "The parameter DryRun is not recognized")
    );
    let answer = world
        .post(
            &world.caller,
            "sts",
            "Action=GetCallerIdentity&Version=2016-11-15",
        )
        .await;
    assert_eq!(answer.one("Code"), "NoSuchVersion");
    let answer = world
        .post(
            &world.caller,
            "ec2",
            &format!("{EC2}Action=GetCallerIdentity"),
        )
        .await;
    assert_eq!(answer.refusal(), "InvalidAction");

    let mut identity = world.caller.clone();
    identity.secret = world.stranger.secret.clone();
    let answer = world.post(&identity, "sts", STS).await;
    assert_eq!(answer.one("Code"), "SignatureDoesNotMatch");
    assert_eq!(answer.status, 403);
    let request = world.signed(&world.caller, "sts", STS);
    world.clock.advance(std::time::Duration::from_secs(901));
    let answer = world.send(request).await;
    assert_eq!(answer.one("Code"), "SignatureDoesNotMatch");
    assert!(
        answer.one("Message").starts_with("Signature expired: "),
        "{}",
        answer.body
    );
}
