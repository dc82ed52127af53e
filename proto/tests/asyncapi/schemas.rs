//! What messages look like in canonical proto3 JSON, as JSON Schema (draft 7, which `AsyncAPI` 3 extends).
//!
//! The source of the mapping: <https://protobuf.dev/programming-guides/json/>. 64-bit numbers are strings, bytes base64,
//! enums their names; a field that has its default is left out, so none is required.

use std::collections::BTreeMap;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};
use serde_json::{Map, Value, json};

/// Where field 4 (`message_type`), 5 (`enum_type`) of a file, and 2 (`field`, `value`) of those, stand in comments' paths.
const MESSAGE: i32 = 4;
const ENUM: i32 = 5;
const MEMBER: i32 = 2;

/// The messages and enums of one package, by name.
pub(crate) struct Types<'a> {
    package: &'a str,
    messages: BTreeMap<&'a str, (&'a DescriptorProto, Comments<'a>)>,
    enums: BTreeMap<&'a str, (&'a EnumDescriptorProto, Comments<'a>)>,
}

/// What the file says about one of its types.
#[derive(Clone, Copy)]
struct Comments<'a> {
    file: &'a FileDescriptorProto,
    at: [i32; 2],
}

impl Comments<'_> {
    /// About the type itself, or about a member of it.
    fn of(self, member: Option<usize>) -> Option<String> {
        let mut path = self.at.to_vec();
        path.extend(member.into_iter().flat_map(|index| [MEMBER, index as i32]));
        let locations = &self.file.source_code_info.as_ref()?.location;
        let text = locations.iter().find(|location| location.path == path)?.leading_comments();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        (!text.is_empty()).then_some(text)
    }
}

impl<'a> Types<'a> {
    pub(crate) fn of(files: &'a [FileDescriptorProto], package: &'a str) -> Self {
        let mut types = Self { package, messages: BTreeMap::new(), enums: BTreeMap::new() };
        for file in files.iter().filter(|file| file.package() == package) {
            for (index, message) in file.message_type.iter().enumerate() {
                types.messages.insert(message.name(), (message, Comments { file, at: [MESSAGE, index as i32] }));
            }
            for (index, of_names) in file.enum_type.iter().enumerate() {
                types.enums.insert(of_names.name(), (of_names, Comments { file, at: [ENUM, index as i32] }));
            }
        }
        types
    }

    /// Each type's schema.
    pub(crate) fn schemas(&self) -> Map<String, Value> {
        let messages = self.messages.iter().map(|(name, (message, says))| (*name, self.message(message, *says)));
        let enums = self.enums.iter().map(|(name, (names, says))| (*name, of_names(names, *says)));
        messages.chain(enums).map(|(name, schema)| (name.to_owned(), schema)).collect()
    }

    /// The arms of a message's only `oneof`: the JSON name of each, and what its type says of itself.
    pub(crate) fn arms(&self, message: &str) -> Vec<(&'a str, Option<String>)> {
        let (message, _) = self.messages[message];
        let arms = message.field.iter().filter(|field| field.oneof_index.is_some());
        arms.map(|field| {
            let (_, says) = self.messages[self.local(field)];
            (field.json_name(), says.of(None))
        })
        .collect()
    }

    fn message(&self, message: &DescriptorProto, says: Comments<'_>) -> Value {
        let mut properties = Map::new();
        for (index, field) in message.field.iter().enumerate() {
            properties.insert(field.json_name().to_owned(), describe(self.field(field), says.of(Some(index))));
        }
        let mut schema = json!({ "type": "object", "properties": properties });
        let arms: Vec<_> = message.field.iter().filter(|field| field.oneof_index.is_some()).collect();
        if !arms.is_empty() {
            let each = arms.iter().map(|arm| json!({ "required": [arm.json_name()] })).collect::<Vec<_>>();
            // Or none that this version knows.
            let none = json!({ "not": { "anyOf": each.clone() } });
            schema["oneOf"] = each.into_iter().chain([none]).collect();
        }
        describe(schema, says.of(None))
    }

    fn field(&self, field: &FieldDescriptorProto) -> Value {
        let one = match field.r#type() {
            Type::Bool => json!({ "type": "boolean" }),
            Type::String => json!({ "type": "string" }),
            Type::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Type::Uint32 => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
            Type::Uint64 | Type::Fixed64 => json!({ "type": "string", "pattern": "^[0-9]{1,20}$" }),
            Type::Message | Type::Enum => json!({ "$ref": format!("#/components/schemas/{}", self.local(field)) }),
            Type::Double
            | Type::Float
            | Type::Group
            | Type::Int32
            | Type::Int64
            | Type::Fixed32
            | Type::Sfixed32
            | Type::Sfixed64
            | Type::Sint32
            | Type::Sint64 => {
                panic!("{}: no frame has such a field yet; give it its JSON form here", field.name())
            }
        };
        if field.label() == Label::Repeated { json!({ "type": "array", "items": one }) } else { one }
    }

    fn local(&self, field: &'a FieldDescriptorProto) -> &'a str {
        let name = field.type_name().strip_prefix('.').and_then(|name| name.strip_prefix(self.package));
        name.and_then(|name| name.strip_prefix('.')).expect("types of frames are all of this package")
    }
}

fn of_names(names: &EnumDescriptorProto, says: Comments<'_>) -> Value {
    let known: Vec<_> = names.value.iter().map(prost_types::EnumValueDescriptorProto::name).collect();
    let lines = names.value.iter().enumerate();
    let lines = lines.filter_map(|(index, value)| Some(format!("`{}`: {}", value.name(), says.of(Some(index))?)));
    let text = says.of(None).into_iter().chain(lines).collect::<Vec<_>>().join("\n\n");
    describe(json!({ "type": "string", "enum": known }), (!text.is_empty()).then_some(text))
}

/// The schema with what is said of it. What stands beside a reference counts for nothing in draft 7.
fn describe(schema: Value, text: Option<String>) -> Value {
    let Some(text) = text else { return schema };
    let mut schema = if schema.get("$ref").is_some() { json!({ "allOf": [schema] }) } else { schema };
    schema["description"] = text.into();
    schema
}
