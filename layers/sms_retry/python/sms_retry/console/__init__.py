"""The console in the browser. A module imports only from the lines below its own:

5  pages                       every address: its readings and its template
4  sign_in_pages               the addresses of sign-in and sign-out
3  web                         requests and responses: sessions, headers, problems
2  actions · story · figures   the forms · one message's story · the state of the queue
1  sign_in · view · fields     the OpenID provider · statuses, reasons and times in words · fields as values
0  session · csrf · plots      signed cookies · the forms' tokens · the last day as shapes
"""
