"""The console in the browser, from the bottom up:

4  pages                     every address: what is read, and what it becomes
3  web                       requests in, pages out: who is let in, what every answer carries
2  forms · story · figures   what a person can do · one message's story · how the queue is
1  view                      how things are put: statuses, reasons and times in words; the templates
0  door · plots              who asks, and whether a form came from here · the last day as shapes
"""
