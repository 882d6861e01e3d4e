"""Sends failed text messages again: at the right time, as often as it makes sense, and never twice.

The modules stand on floors. A module imports only from lower floors; import-linter checks this (pyproject.toml).

   10  __main__
    9  doctor
    8  commands
    7  runtime · scale_out · terminal · console
    6  metrics · bulk
    5  entry · first_send · worker · reconcile · delivery · operate · health · publish · response
    4  attempt · listing · database_role
    3  policy · store · twilio · callback · intake · conninfo · deployment · prices
    2  readings · hours · matching · migrate
    1  values · numbers · replies · codes · zones · holidays · settings · rights · secrets · connection

Floors 10 to 7 face a person or AWS: the command line, the browser's console, and the state of a Lambda container.
The `doctor` checks the settings of a deployment.
Floor 5 holds the use cases. `worker` sends due messages, one `attempt` for each claim. `reconcile` asks Twilio's
`listing` about messages without an answer, and `matching` says which listed message is ours. `delivery` records
receipts and replies.
`policy` judges failures by the table of `codes`; `hours` says when a person may be texted, by the `zones` of the number
and the `holidays` of its region; `entry` refuses a message that finds no such time. `store` calls the database
over its `connection`; `readings` has the shapes that people look at, and `prices` the estimate of usage. `twilio`
sends; `callback` and `intake` read the events of Twilio and of applications. `database_role` creates the role of the
service in a database of the stack, and `rights` has the rights of each role. `values` has the types that these
modules exchange.
"""
