# frozen_string_literal: true

# The client of sms-retry for Ruby: one file without dependencies, to copy. `make clients` of sms-retry writes it.
#
# Each method runs one statement on a connection of the gem pg, and so belongs to its transaction. In Rails this is
# ActiveRecord::Base.connection.raw_connection. An argument that is nil has the default of the database.

require "json"
require "time"

module SmsRetry
  # A row of queue_sms_retries.
  Place = Struct.new(:place, :message_id, :status, :fault)

  # A row of sms_batch.
  BatchCount = Struct.new(:status, :messages)

  # A row of sms_message_state.
  MessageState = Struct.new(:message_id, :status, :provider_sid, :next_attempt_at, :error_code)

  # A row of take_sms_events.
  Event = Struct.new(:id, :type, :at, :message_id, :message_key, :business_id, :batch, :error_code, :reason, :detail)

  # Queue one message, once per key, inside the caller's transaction. Returns the message's id.
  # @param connection [PG::Connection]
  # @param to_number [String] the recipient in E.164, such as +14155550123
  # @param body [String] 1 to 1,600 characters
  # @param message_key [String, nil] the same key twice, in one business_id, is one message
  # @param business_id [String, nil] the business that the message is sent for
  # @param kind [String, nil] transactional, marketing, otp or emergency
  # @param on_unknown [String, nil] resend or hold
  # @param time_zone [String, nil] an IANA time zone of the recipient
  # @param scheduled_for [Time, nil] not sent before this time
  # @param expires_at [Time, nil] not sent after this time
  # @param error_code [Integer, nil] Twilio's code of a first send that failed
  # @param error_message [String, nil] Twilio's text of that failure
  # @param delays [Array<String>, nil] the waits after that failure
  # @param sender [String, nil] a number, a short code, a name or a Messaging Service
  # @param batch [String, nil] the name of the batch
  # @param media_urls [Array<String>, nil] 1 to 10 https URLs
  # @param content_sid [String, nil] a content template, HX...
  # @param content_variables [Hash, nil] the variables of the template
  # @return [Integer]
  def self.queue_sms_retry(connection, to_number:, body:, message_key: nil, business_id: nil, kind: nil, on_unknown:
      nil, time_zone: nil, scheduled_for: nil, expires_at: nil, error_code: nil, error_message: nil, delays: nil,
      sender: nil, batch: nil, media_urls: nil, content_sid: nil, content_variables: nil)
    found = rows(connection, "queue_sms_retry", [
      ["to_number", "text", to_number],
      ["body", "text", body],
      ["message_key", "text", message_key],
      ["business_id", "text", business_id],
      ["kind", "text", kind],
      ["on_unknown", "text", on_unknown],
      ["time_zone", "text", time_zone],
      ["scheduled_for", "timestamptz", scheduled_for],
      ["expires_at", "timestamptz", expires_at],
      ["error_code", "integer", error_code],
      ["error_message", "text", error_message],
      ["delays", "interval[]", delays],
      ["sender", "text", sender],
      ["batch", "text", batch],
      ["media_urls", "text[]", media_urls],
      ["content_sid", "text", content_sid],
      ["content_variables", "jsonb", content_variables],
    ])
    decode("bigint", found.first["queue_sms_retry"])
  end

  # Queue many messages. Returns a row for each place, from 1: the message, or the fault of a refused one.
  # @param connection [PG::Connection]
  # @param messages [Array<Hash>] 1 to 10,000 objects with the fields of send_sms, such as to, body and message_key
  # @param batch [String, nil] the batch of all that name none
  # @return [Array<Place>]
  def self.queue_sms_retries(connection, messages:, batch: nil)
    found = rows(connection, "queue_sms_retries", [
      ["messages", "jsonb", messages],
      ["batch", "text", batch],
    ])
    found.map do |row|
      Place.new(
        decode("integer", row["place"]),
        decode("bigint", row["message_id"]),
        decode("text", row["status"]),
        decode("text", row["fault"]),
      )
    end
  end

  # Cancel one message. Returns its status. A message that was sent, or is being sent, is not sent again.
  # @param connection [PG::Connection]
  # @param message_id [Integer] the id that the message was queued with
  # @return [String, nil]
  def self.cancel_sms_retry(connection, message_id:)
    found = rows(connection, "cancel_sms_retry", [
      ["message_id", "bigint", message_id],
    ])
    decode("text", found.first["cancel_sms_retry"])
  end

  # Cancel a batch. Returns how many messages were cancelled. No message of it is sent again.
  # @param connection [PG::Connection]
  # @param batch [String] the name of the batch
  # @param limit_count [Integer, nil] the most messages to cancel in one call
  # @return [Integer]
  def self.cancel_sms_batch(connection, batch:, limit_count: nil)
    found = rows(connection, "cancel_sms_batch", [
      ["batch", "text", batch],
      ["limit_count", "integer", limit_count],
    ])
    decode("integer", found.first["cancel_sms_batch"])
  end

  # Count the messages of a batch by status.
  # @param connection [PG::Connection]
  # @param batch [String] the name of the batch
  # @return [Array<BatchCount>]
  def self.sms_batch(connection, batch:)
    found = rows(connection, "sms_batch", [
      ["batch", "text", batch],
    ])
    found.map do |row|
      BatchCount.new(
        decode("text", row["status"]),
        decode("bigint", row["messages"]),
      )
    end
  end

  # Record a person's consent. Returns how many waiting messages failed by an opt-out.
  # @param connection [PG::Connection]
  # @param business_id [String] the business, or * for every business
  # @param phone_number [String] the person, in E.164
  # @param consent [String] opted_in, opted_out or unknown
  # @return [Integer]
  def self.set_sms_consent(connection, business_id:, phone_number:, consent:)
    found = rows(connection, "set_sms_consent", [
      ["business_id", "text", business_id],
      ["phone_number", "text", phone_number],
      ["consent", "text", consent],
    ])
    decode("integer", found.first["set_sms_consent"])
  end

  # The state of one message; no row for an id that does not exist.
  # @param connection [PG::Connection]
  # @param message_id [Integer] the id that the message was queued with
  # @return [Array<MessageState>]
  def self.sms_message_state(connection, message_id:)
    found = rows(connection, "sms_message_state", [
      ["message_id", "bigint", message_id],
    ])
    found.map do |row|
      MessageState.new(
        decode("bigint", row["message_id"]),
        decode("text", row["status"]),
        decode("text", row["provider_sid"]),
        decode("timestamptz", row["next_attempt_at"]),
        decode("integer", row["error_code"]),
      )
    end
  end

  # Lease the oldest events. An event that done_sms_events has not confirmed comes again after the lease.
  # @param connection [PG::Connection]
  # @param limit_count [Integer, nil] the most events
  # @param lease [String, nil] how long no other consumer gets them
  # @return [Array<Event>]
  def self.take_sms_events(connection, limit_count: nil, lease: nil)
    found = rows(connection, "take_sms_events", [
      ["limit_count", "integer", limit_count],
      ["lease", "interval", lease],
    ])
    found.map do |row|
      Event.new(
        decode("bigint", row["id"]),
        decode("text", row["type"]),
        decode("timestamptz", row["at"]),
        decode("bigint", row["message_id"]),
        decode("text", row["message_key"]),
        decode("text", row["business_id"]),
        decode("text", row["batch"]),
        decode("integer", row["error_code"]),
        decode("text", row["reason"]),
        decode("jsonb", row["detail"]),
      )
    end
  end

  # Confirm events: they do not come again. Returns the number of events that were waiting.
  # @param connection [PG::Connection]
  # @param ids [Array<Integer>] the ids of events
  # @return [Integer]
  def self.done_sms_events(connection, ids:)
    found = rows(connection, "done_sms_events", [
      ["ids", "bigint[]", ids],
    ])
    decode("integer", found.first["done_sms_events"])
  end

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
      "{#{values.map { |value| "\"#{value.to_s.gsub(/["\\]/) { |special| "\\#{special}" }}\"" }.join(",")}}"
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
