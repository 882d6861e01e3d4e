"""Sends failed text messages again: at the right time, as often as it makes sense, and never twice.

The modules stand on floors. A module imports only from lower floors; import-linter checks this (pyproject.toml).

    8  __main__
    7  commands
    6  runtime · scale_out · terminal · console
    5  metrics
    4  first_send · worker · reconcile · delivery · operate · health · response
    3  attempt · listing
    2  policy · store · twilio · callback · intake · conninfo
    1  values · codes · hours · settings · secrets · connection · migrate · deployment

Floors 8 to 6 face a person or AWS: the command line, the browser's console, and the state of a Lambda container.
Floor 4 holds the use cases. `worker` sends due messages, one `attempt` for each claim. `reconcile` asks Twilio's
`listing` about messages without an answer. `delivery` records receipts and replies.
`policy` judges failures by the table of `codes`; `hours` says when a person may be texted. `store` calls the database
over its `connection`, `twilio` sends, `callback` and `intake` read the events of Twilio and of applications. The other
modules exchange `values`.
"""
