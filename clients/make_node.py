"""Writes the client for Node.js, with its types in JSDoc, which TypeScript reads."""

from __future__ import annotations

from clients.entries import ENTRIES, Argument, Entry

# The type of an argument, and of a column as the driver `pg` returns it.
TYPES = {
    "text": ("string", "string"),
    "integer": ("number", "number"),
    "bigint": ("string | number | bigint", "string"),
    "timestamptz": ("Date | string", "Date"),
    "interval": ("string", "string"),
    "interval[]": ("string[]", "string[]"),
    "text[]": ("string[]", "string[]"),
    "bigint[]": ("(string | number | bigint)[]", "string[]"),
    "jsonb": ("object", "any"),
}

HEAD = """\
// The client of sms-retry for Node.js: one file without dependencies, to copy. `make clients` of sms-retry writes it.
//
// Each function runs one statement on a client of the driver `pg`, and so belongs to the transaction of that client. A
// missing argument has the default of the database. Ids are strings: they may be larger than a number can hold exactly.

/** @typedef {{ query(text: string, values: any[]): Promise<{ rows: any[] }> }} Client a client of `pg` */
"""

TAIL = """
/**
 * @param {Client} client
 * @param {string} name
 * @param {Record<string, string>} types
 * @param {Record<string, any>} given
 * @returns {Promise<any[]>}
 */
async function rows(client, name, types, given) {
  const wrong = Object.keys(given).find((key) => !(key in types));
  if (wrong) throw new TypeError(`${name} has no argument ${wrong}`);
  const names = Object.keys(types).filter((key) => given[key] !== undefined && given[key] !== null);
  const places = names.map((key, n) => `${key} => $${n + 1}::${types[key]}`).join(", ");
  const values = names.map((key) => (types[key] === "jsonb" ? JSON.stringify(given[key]) : given[key]));
  return (await client.query(`select * from sms_retry.${name}(${places})`, values)).rows;
}
"""


def client() -> str:
    return HEAD + "".join(map(_row, ENTRIES)) + "".join(map(_function, ENTRIES)) + TAIL


def _row(entry: Entry) -> str:
    if not entry.row:
        return ""
    columns = "; ".join(f"{column.name}: {_returned(entry, column)}" for column in entry.columns)
    return f"/** @typedef {{{{ {columns} }}}} {entry.row} */\n"


def _returned(entry: Entry, column: Argument) -> str:
    may_be_null = column is not entry.columns[0] and entry.row != "BatchCount"
    return TYPES[column.type][1] + " | null" * may_be_null


def _function(entry: Entry) -> str:
    arguments = [
        f" * @param {{{_type(argument)}}} {_given(argument)} {argument.meaning}" for argument in entry.arguments
    ]
    types = ", ".join(f'{argument.name}: "{argument.type}"' for argument in entry.arguments)
    result = (
        f"{entry.row}[]" if entry.row else "string | null" if entry.returns == "text" else TYPES[entry.returns or ""][1]
    )
    call = f'await rows(client, "{entry.name}", {{ {types} }}, given)'
    all_optional = not any(argument.required for argument in entry.arguments)
    return "\n".join(
        [
            "",
            "/**",
            f" * {entry.does}",
            " * @param {Client} client",
            f" * @param {{object}} {'[given]' if all_optional else 'given'}",
            *arguments,
            f" * @returns {{Promise<{result}>}}",
            " */",
            f"export async function {entry.name}(client, given{' = {}' if all_optional else ''}) {{",
            f"  return {call};" if entry.row else f"  return ({call})[0].{entry.name};",
            "}",
            "",
        ]
    )


def _type(argument: Argument) -> str:
    return "object[]" if argument.name == "messages" else TYPES[argument.type][0]


def _given(argument: Argument) -> str:
    return f"given.{argument.name}" if argument.required else f"[given.{argument.name}]"
