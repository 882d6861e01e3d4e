# frozen_string_literal: true

# Calls entries by the client for Ruby: reads a list of `[entry, arguments]` in JSON, and prints the results.

require "pg"
require_relative File.expand_path(ARGV[0])

connection = PG.connect(ENV.fetch("DATABASE_URL"))
results = connection.transaction do
  JSON.parse($stdin.read).map do |entry, arguments|
    given = arguments.to_h { |name, value| [name.to_sym, name.end_with?("_for", "_at") ? Time.parse(value) : value] }
    result = SmsRetry.public_send(entry, connection, **given)
    result.is_a?(Array) ? result.map(&:to_h) : result
  end
end
puts JSON.generate(results)
