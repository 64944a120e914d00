// Shows, in a page that has just opened a notebook, what runs in it since before: the server has
// written it down (runs.py) and tells it from the first line on, as if this page had asked for it.
// The page asks with the request's own id, so that JupyterLab itself takes what comes for the
// cell's. It is written by hand as the module container that JupyterLab loads: no build is needed.
(() => {
  let shared;

  // a module of JupyterLab's own; what it shares is there once
  const use = async name => {
    const [version] = Object.values(shared[name]);
    return (await version.get())();
  };

  // how often runs that another page shows are looked at: that page may go
  const AGAIN = 4000;
  // typing goes on while cells are run
  const SETTLED = 1000;

  const find = (panel, run) => {
    const cells = panel.content.widgets.filter(cell => cell.model.type === 'code');
    return (
      cells.find(cell => cell.model.id === run.cell) ??
      cells.find(cell => cell.model.sharedModel.getSource() === run.code)
    );
  };

  const setState = (cell, state) => {
    if (cell.isDisposed) {
      return;
    }
    if ('executionState' in cell.model) {
      cell.model.executionState = state;
    } else if (state === 'running') {
      cell.setPrompt('*');
    }
  };

  const show = (KernelMessage, kernel, cell, run) => {
    // else it would take the new one along when it goes, which has the same id
    cell.outputArea.future?.dispose();
    const request = KernelMessage.createMessage({
      msgType: 'execute_request',
      channel: 'shell',
      username: kernel.username,
      session: kernel.clientId,
      msgId: run.id,
      content: { code: run.code },
      metadata: { cellId: run.cell, jupbox_attach: true }
    });
    const future = kernel.sendShellMessage(request, true, false);
    if (cell.outputArea.reattachFuture) {
      cell.outputArea.reattachFuture(future);
    } else {
      cell.outputArea.future = future;
    }
    setState(cell, 'running');
    const ended = reply => {
      const count = reply?.content.execution_count;
      if (count && !cell.isDisposed) {
        cell.model.executionCount = count;
      }
      setState(cell, 'idle');
    };
    future.done.then(ended, () => ended());
  };

  const follow = (app, modules, panel) => {
    const { KernelMessage, ServerConnection, URLExt } = modules;
    const settings = app.serviceManager.serverSettings;
    let timer;

    const look = async () => {
      clearTimeout(timer);
      const kernel = panel.sessionContext.session?.kernel;
      if (panel.isDisposed || !panel.context.isReady || kernel?.connectionStatus !== 'connected') {
        return;
      }
      const query = URLExt.objectToQueryString({ kernel: kernel.id, session: kernel.clientId });
      const url = URLExt.join(settings.baseUrl, 'jupbox/runs') + query;
      const answer = await ServerConnection.makeRequest(url, {}, settings);
      const runs = answer.ok ? await answer.json() : [];
      for (const run of runs.filter(each => !each.watched)) {
        const cell = find(panel, run);
        if (cell) {
          show(KernelMessage, kernel, cell, run);
        }
      }
      if (runs.some(each => each.watched)) {
        timer = setTimeout(tell, AGAIN);
      }
    };
    const tell = () => look().catch(error => console.warn('jupbox-runs:', error));

    panel.sessionContext.connectionStatusChanged.connect(tell);
    panel.sessionContext.kernelChanged.connect(tell);
    panel.context.ready.then(tell);
    panel.disposed.connect(() => clearTimeout(timer));
  };

  // What a cell prints finds its cell in the file only if the file has it.
  const saveWithRuns = (NotebookActions, tracker, documents) => {
    const timers = new Map();
    NotebookActions.executionScheduled.connect((_, { notebook }) => {
      const panel = tracker.find(each => each.content === notebook);
      if (!panel || !documents.autosave) {
        return;
      }
      clearTimeout(timers.get(panel));
      const save = () => {
        timers.delete(panel);
        const { context } = panel;
        if (!panel.isDisposed && context.model.dirty && context.contentsModel?.writable) {
          context.save().catch(() => undefined); // it has told the user
        }
      };
      timers.set(panel, setTimeout(save, SETTLED));
    });
  };

  const extension = async () => {
    const { INotebookTracker, NotebookActions } = await use('@jupyterlab/notebook');
    const { IDocumentManager } = await use('@jupyterlab/docmanager');
    const { KernelMessage, ServerConnection } = await use('@jupyterlab/services');
    const { URLExt } = await use('@jupyterlab/coreutils');
    const plugin = {
      id: 'jupbox-runs:plugin',
      description: 'Shows what runs since before the page was opened.',
      autoStart: true,
      requires: [INotebookTracker, IDocumentManager],
      activate: (app, tracker, documents) => {
        const modules = { KernelMessage, ServerConnection, URLExt };
        tracker.forEach(panel => follow(app, modules, panel));
        tracker.widgetAdded.connect((_, panel) => follow(app, modules, panel));
        saveWithRuns(NotebookActions, tracker, documents);
      }
    };
    return () => ({ __esModule: true, default: plugin });
  };

  globalThis._JUPYTERLAB ??= {};
  globalThis._JUPYTERLAB['jupbox-runs'] = {
    init: scope => {
      shared = scope;
    },
    get: async module => {
      if (module !== './extension') {
        throw new Error(`no module ${module}`);
      }
      return extension();
    }
  };
})();
