//! `DescribeRegions`: the one region that is configured. Its endpoint is the host that the client called.

use super::{Call, admit};
use crate::error::{ApiError, Code, echo};
use crate::filters::{Work, take_filters};
use crate::query::Parameters;
use bytes::Bytes;

const OPT_IN_STATUS: &str = "opt-in-not-required";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Field {
    Endpoint,
    OptInStatus,
    RegionName,
}

impl Field {
    fn of_name(name: &str) -> Option<Field> {
        match name {
            "endpoint" => Some(Field::Endpoint),
            "opt-in-status" => Some(Field::OptInStatus),
            "region-name" => Some(Field::RegionName),
            _ => None,
        }
    }
}

pub(super) fn describe_regions(
    call: &Call<'_>,
    mut parameters: Parameters,
) -> Result<Bytes, ApiError> {
    let filters = take_filters(&mut parameters, Field::of_name)?;
    let names = parameters.take_list("RegionName");
    parameters.take_flag("AllRegions")?;
    if let Some(unknown) = names.iter().find(|name| *name != call.region) {
        let message = format!("Invalid region provided: {}", echo(unknown));
        return Err(ApiError::new(Code::InvalidParameterValue, message));
    }
    admit(parameters)?;
    let mut work = Work::new();
    let selected = filters.iter().all(|filter| {
        let value = match filter.field {
            Field::Endpoint => call.host,
            Field::OptInStatus => OPT_IN_STATUS,
            Field::RegionName => call.region,
        };
        filter.accepts([value], &mut work)
    });
    let mut xml = call.response("DescribeRegionsResponse");
    xml.open("regionInfo");
    if selected {
        xml.open("item");
        xml.text("regionName", call.region);
        xml.text("regionEndpoint", call.host);
        xml.text("optInStatus", OPT_IN_STATUS);
        xml.close();
    }
    Ok(xml.finish())
}
