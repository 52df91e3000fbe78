"""The paper's comparison as one command: methods, seeds, languages, controls, error bars.

Modules:
    suite               what is compared: a YAML file
    cells               the pieces of work, known by digests of their inputs
    plan                the cells of a comparison, which of them has which figure, and what a change makes anew
    planning            the plan of a suite
    run_cell            one cell: trains, adopts or tags
    few_shot            samples of labelled target sentences
    evaluation          a test file tagged, with counts of every sentence
    placebos            controls: random support, wrong labels, a bias on O
    bert_adam           the released code's inner optimizer
    released_optimizer  adaptation by it, literal and slow
    scheduling          which cell runs when
    driver              cells on Ray: what `metacross reproduce` calls
    results             what cells found, as arrays
    bootstrap           how certain differences are
    tables              the figures of the report
    report              report.md, report.json
    plots               its plots
    page                the sentences that changed most
"""
