"""The console in the browser. A module imports only from the lines below its own:

4  pages                       every address: its readings and its template
3  web                         requests and responses: sign-in, headers, problems
2  actions · story · figures   the forms · one message's story · the state of the queue
1  view · fields               statuses, reasons and times in words, templates · fields as values
0  csrf · plots                the forms' tokens · the last day as shapes
"""
