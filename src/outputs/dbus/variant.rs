//! Records of the wire format as D-Bus variants, field by field.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value;
use zbus::Variant;

/// A record as D-Bus carries it, `a{sv}`.
pub type Fields = HashMap<String, Variant<'static>>;

/// The fields of a record, without those that are null.
pub fn fields<T: Serialize>(record: &T) -> Fields {
    match serde_json::to_value(record) {
        Ok(Value::Object(object)) => object_fields(object),
        // The records are structures with string keys: they are always objects.
        Ok(_) | Err(_) => Fields::new(),
    }
}

fn object_fields(object: serde_json::Map<String, Value>) -> Fields {
    object
        .into_iter()
        .filter_map(|(key, value)| Some((key, variant(value)?)))
        .collect()
}

fn variant(value: Value) -> Option<Variant<'static>> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => Variant::from(value),
        Value::Number(number) => match number.as_u64() {
            Some(value) => Variant::from(value),
            None => Variant::from(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Variant::from(text),
        Value::Object(object) => Variant::from(object_fields(object)),
        Value::Array(list) if list.iter().any(Value::is_string) => Variant::from(
            list.iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect::<Vec<String>>(),
        ),
        Value::Array(list) => Variant::from(
            list.into_iter()
                .filter_map(|entry| match entry {
                    Value::Object(object) => Some(object_fields(object)),
                    _ => None,
                })
                .collect::<Vec<Fields>>(),
        ),
    })
}
