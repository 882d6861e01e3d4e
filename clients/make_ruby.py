"""Writes the client for Ruby, with its types in YARD's comments."""

from __future__ import annotations

import textwrap

from clients.entries import ENTRIES, Argument, Entry

TYPES = {
    "text": "String",
    "integer": "Integer",
    "bigint": "Integer",
    "timestamptz": "Time",
    "interval": "String",
    "interval[]": "Array<String>",
    "text[]": "Array<String>",
    "bigint[]": "Array<Integer>",
    "jsonb": "Hash",
}

HEAD = """\
# frozen_string_literal: true

# The client of sms-retry for Ruby: one file without dependencies, to copy. `make clients` of sms-retry writes it.
#
# Each method runs one statement on a connection of the gem pg, and so belongs to its transaction. In Rails this is
# ActiveRecord::Base.connection.raw_connection. An argument that is nil has the default of the database.

require "json"
require "time"

module SmsRetry
"""

TAIL = """\
  class << self
    private

    def rows(connection, name, arguments)
      given = arguments.reject { |_, _, value| value.nil? }
      places = given.each_with_index.map { |(argument, type, _), n| "#{argument} => $#{n + 1}::#{type}" }
      values = given.map { |_, type, value| encode(type, value) }
      connection.exec_params("select * from sms_retry.#{name}(#{places.join(", ")})", values).to_a
    end

    def encode(type, value)
      case value
      when Time then value.strftime("%Y-%m-%dT%H:%M:%S.%6N%:z")
      when Hash then JSON.generate(value)
      when Array then type == "jsonb" ? JSON.generate(value) : array(value)
      else value.to_s
      end
    end

    def array(values)
      "{#{values.map { |value| "\\"#{value.to_s.gsub(/["\\\\]/) { |special| "\\\\#{special}" }}\\"" }.join(",")}}"
    end

    # The driver returns text, unless the connection has a type map.
    def decode(type, value)
      return value unless value.is_a?(String)

      case type
      when "integer", "bigint" then Integer(value, 10)
      when "timestamptz" then Time.parse(value)
      when "jsonb" then JSON.parse(value)
      else value
      end
    end
  end
end
"""


def client() -> str:
    return HEAD + "".join(map(_row, ENTRIES)) + "".join(map(_method, ENTRIES)) + TAIL


def _row(entry: Entry) -> str:
    if not entry.row:
        return ""
    columns = ", ".join(f":{column.name}" for column in entry.columns)
    return f"  # A row of {entry.name}.\n  {entry.row} = Struct.new({columns})\n\n"


def _method(entry: Entry) -> str:
    arguments = ", ".join(f"{a.name}:" if a.required else f"{a.name}: nil" for a in entry.arguments)
    given = [f'      ["{a.name}", "{a.type}", {a.name}],' for a in entry.arguments]
    meanings = [f"  # @param {a.name} [{_type(a)}{'' if a.required else ', nil'}] {a.meaning}" for a in entry.arguments]
    result = "String, nil" if entry.returns == "text" else TYPES.get(entry.returns or "", f"Array<{entry.row}>")
    return "\n".join(
        [
            f"  # {entry.does}",
            "  # @param connection [PG::Connection]",
            *meanings,
            f"  # @return [{result}]",
            *textwrap.wrap(
                f"def self.{entry.name}(connection, {arguments})", 116, initial_indent="  ", subsequent_indent=" " * 6
            ),
            f'    found = rows(connection, "{entry.name}", [',
            *given,
            "    ])",
            *_returned(entry),
            "  end",
            "",
            "",
        ]
    )


def _returned(entry: Entry) -> list[str]:
    if not entry.row:
        return [f'    decode("{entry.returns}", found.first["{entry.name}"])']
    columns = [f'        decode("{column.type}", row["{column.name}"]),' for column in entry.columns]
    return ["    found.map do |row|", f"      {entry.row}.new(", *columns, "      )", "    end"]


def _type(argument: Argument) -> str:
    return "Array<Hash>" if argument.name == "messages" else TYPES[argument.type]
