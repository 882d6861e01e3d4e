"""Sends a failed text message again: at the right time, as often as it makes sense, and never twice.

Read it from the bottom up; a module imports only from the floors below its own.

    4  __main__ · commands                    `python -m sms_retry`: the same by hand, from a shell
    3  runtime · measure                      what a Lambda container keeps between invocations; what is counted
       terminal · console                     what people see, in a shell and in a browser
    2  intake · resend · delivery · reconcile the use cases of applications, the clock and Twilio,
       operate · health                       and of those who run it; attempt, below them, is one try to send
    1  policy · store · twilio · callback     when, if ever, to try again · Postgres · Twilio's wire, out and in
       conninfo · deployment                  how to sign in to Postgres · the answer to CloudFormation
    0  retry · hours · settings               the nouns · day and night · the environment
       connection · migrate                   the way to Postgres, dead or alive · the migrator
"""
